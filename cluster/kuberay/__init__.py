"""Kubernetes manifests for KubeRay, made from specs."""

from cluster.kuberay.manifests import ray_cluster, ray_job, ray_service

__all__ = ["ray_cluster", "ray_job", "ray_service"]
