"""What a training run tells Prometheus, in the names of the one table of metrics."""

from collections.abc import Callable, Mapping

from cluster.metrics import Meter

NOT_METRICS = ("step", "epoch", "seconds_left", "samples_per_second")


def training_meter(run_id: str, batch: int) -> Callable[[Mapping[str, float]], None]:
    """A function that is given the loop's progress now and then, and emits it. `batch`: samples in a step."""
    meter, seen = Meter(run_id=run_id), {"step": 0.0}

    def emit(values: Mapping[str, float]) -> None:
        steps = values["step"] - seen["step"] if seen["step"] else 0.0
        seen["step"] = values["step"]
        meter.set("equi_step", values["step"])
        meter.add("equi_samples", steps * batch)
        if values.get("samples_per_second", 0.0) > 0:
            meter.observe("equi_step_seconds", batch / values["samples_per_second"])
        for name, value in values.items():
            if name not in NOT_METRICS:
                meter.set("equi_training_metric", value, metric=f"train/{name}")

    return emit
