"""Grafana dashboards made from the table of metrics."""

from cluster.dashboards.render import render_dashboard

__all__ = ["render_dashboard"]
