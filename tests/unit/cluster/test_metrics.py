"""The table of metrics and the meter that emits it."""

import subprocess
import sys
from typing import Any

import pytest

from cluster import metrics
from cluster.metrics import METRICS, Meter


class Recorded:
    """Stands in for Ray's metric objects: keeps what it is told."""

    def __init__(self, name: str, told: list[tuple[Any, ...]]) -> None:
        self.name, self.told = name, told

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, "inc", value, tags))

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, "set", value, tags))

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, "observe", value, tags))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(metrics, "_made", {})
    monkeypatch.setattr(metrics, "_make", lambda metric: Recorded(metric.name, told))
    return told


def test_names_are_those_that_prometheus_allows() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert name.startswith("equi_")
        assert name.replace("_", "").isalnum()
        assert not name.endswith("_total")  # Ray adds it to a counter


def test_only_a_histogram_has_boundaries_and_they_rise() -> None:
    for metric in METRICS.values():
        assert bool(metric.boundaries) == (metric.kind == "histogram")
        assert list(metric.boundaries) == sorted(set(metric.boundaries))


def test_every_expression_uses_its_own_series_and_every_legend_a_label_of_the_metric() -> None:
    for metric in METRICS.values():
        assert any(series in metric.expression for series in metric.series)
        for label in metric.legend.replace("{{", " ").replace("}}", " ").split():
            assert label in metric.labels


def test_a_counter_is_exported_as_ray_does_it() -> None:
    assert METRICS["equi_samples"].series == ("ray_equi_samples_total",)
    assert METRICS["equi_step"].series == ("ray_equi_step",)
    assert "ray_equi_step_seconds_bucket" in METRICS["equi_step_seconds"].series


def test_the_meter_fills_in_its_own_labels(told: list[tuple[Any, ...]]) -> None:
    meter = Meter(run_id="r1")
    meter.add("equi_samples", 32)
    meter.set("equi_training_metric", 0.5, metric="loss")
    meter.observe("equi_step_seconds", 0.1)
    assert told == [
        ("equi_samples", "inc", 32, {"run_id": "r1"}),
        ("equi_training_metric", "set", 0.5, {"run_id": "r1", "metric": "loss"}),
        ("equi_step_seconds", "observe", 0.1, {"run_id": "r1"}),
    ]


def test_a_label_of_the_meter_that_a_metric_lacks_is_left_out(told: list[tuple[Any, ...]]) -> None:
    Meter(endpoint="ethanol", model="ethanol@1", run_id="r1").set("equi_queued_items", 3)
    assert told == [("equi_queued_items", "set", 3, {"endpoint": "ethanol", "model": "ethanol@1"})]


def test_counting_nothing_is_no_error(told: list[tuple[Any, ...]]) -> None:
    Meter(run_id="r1").add("equi_samples", 0)
    assert told == []


def test_what_is_not_in_the_table_cannot_be_emitted(told: list[tuple[Any, ...]]) -> None:
    meter = Meter(run_id="r1")
    with pytest.raises(LookupError, match="equi_sample is not in the table"):
        meter.add("equi_sample")
    with pytest.raises(TypeError, match="equi_step is a gauge"):
        meter.add("equi_step")
    with pytest.raises(ValueError, match="labels run_id, metric"):
        meter.set("equi_training_metric", 1.0)
    with pytest.raises(ValueError, match="labels run_id"):
        meter.add("equi_samples", 1, colour="blue")
    with pytest.raises(ValueError, match="cannot go back"):
        meter.add("equi_samples", -1)
    assert told == []


def test_importing_the_table_imports_no_ray() -> None:
    code = "import sys, cluster.metrics; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ray_takes_every_row_of_the_table() -> None:
    # In a process of its own: nothing else should find Ray imported because of this test.
    code = (
        "from cluster.metrics import METRICS, _make\n"
        "for metric in METRICS.values():\n"
        "    made = _make(metric)\n"
        "    assert made.info['name'] == metric.name and made.info['tag_keys'] == metric.labels\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
