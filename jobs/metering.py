"""What a training run tells Prometheus, in the names of the one table of metrics."""

from collections.abc import Callable, Mapping

from cluster.metrics import Meter

THROUGHPUT, MEMORY = "_per_second", "memory/rank"
GAUGES = {
    "step": "equi_step",
    "flops_per_second": "equi_flops",
    "mfu": "equi_mfu",
    "data_wait": "equi_data_wait",
    "skipped": "equi_skipped_steps",
}
NOT_METRICS = ("epoch", "samples", "seconds_left", "seconds_per_step", "step_seconds")


def training_meter(run_id: str) -> Callable[[Mapping[str, float]], None]:
    """A function that is given now and then where the run is or what an evaluation has found, and emits it."""
    meter, seen = Meter(run_id=run_id), {"samples": 0.0}

    def emit(values: Mapping[str, float]) -> None:
        if "samples" in values:
            meter.add("equi_samples", max(0.0, values["samples"] - seen["samples"]) if seen["samples"] else 0.0)
            seen["samples"] = values["samples"]
        if "step_seconds" in values:
            meter.observe("equi_step_seconds", values["step_seconds"])
        for name, value in values.items():
            plain = name.removeprefix("train/")
            if plain in GAUGES:
                meter.set(GAUGES[plain], value)
            elif plain.endswith(THROUGHPUT):
                meter.set("equi_throughput", value, what=plain.removesuffix(THROUGHPUT))
            elif plain.startswith(MEMORY):
                meter.set("equi_worker_memory_bytes", value, rank=plain.removeprefix(MEMORY))
            elif plain not in NOT_METRICS:
                meter.set("equi_training_metric", value, metric=plain)

    return emit
