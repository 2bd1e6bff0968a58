"""What a training run tells Prometheus, in the names of the one table of metrics."""

from collections.abc import Callable, Mapping

from cluster.metrics import Meter

NOT_METRICS = ("step", "epoch", "samples", "seconds_left", "seconds_per_step", "samples_per_second")


def training_meter(run_id: str) -> Callable[[Mapping[str, float]], None]:
    """A function that is given the loop's progress now and then, and emits it."""
    meter, seen = Meter(run_id=run_id), {"samples": 0.0}

    def emit(values: Mapping[str, float]) -> None:
        samples = values["samples"] - seen["samples"] if seen["samples"] else 0.0
        seen["samples"] = values["samples"]
        meter.set("equi_step", values["step"])
        meter.add("equi_samples", samples)
        meter.observe("equi_step_seconds", values["seconds_per_step"])
        for name, value in values.items():
            if name not in NOT_METRICS:
                meter.set("equi_training_metric", value, metric=f"train/{name}")

    return emit
