"""The driver of the autoscaling test: a small Ray Tune sweep, and what the cluster did while it ran.

Run as `python sweep.py ADDRESS STORAGE TRIALS SECONDS LIMIT`. The last line it writes is one JSON object:
`workers` (the number of live worker nodes each time it changed), `scores` of the trials, `best` x, `errors`.
"""

import json
import sys
import threading
import time

import ray
from ray import tune


def live_workers() -> int:
    """Nodes that can run a trial: the head has no CPU."""
    return sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0)


class Census(threading.Thread):
    """Writes down the number of live workers whenever it changes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = [live_workers()]
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            now = live_workers()
            if now != self.seen[-1]:
                self.seen.append(now)


def trial(config: dict[str, float]) -> None:
    """One trial: long enough that the scheduler sees it wait, short enough for a test."""
    time.sleep(config["seconds"])
    tune.report({"score": (config["x"] - 2) ** 2})


def main(address: str, storage: str, trials: int, seconds: float, limit: float) -> None:
    deadline = time.monotonic() + limit
    ray.init(address=address, log_to_driver=False)
    census = Census()
    census.start()
    results = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"x": tune.grid_search(list(range(trials))), "seconds": seconds},
        tune_config=tune.TuneConfig(metric="score", mode="min", max_concurrent_trials=trials),
        run_config=tune.RunConfig(storage_path=storage, name="sweep", verbose=0),
    ).fit()
    # Ask the census, not Ray: a second observer could see the last worker go and stop the census before it does.
    while census.seen[-1] > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    census.over.set()
    census.join()
    scores = sorted(result.metrics["score"] for result in results if result.metrics)
    best = results.get_best_result().config["x"]
    errors = [repr(error) for error in results.errors]
    report = {"workers": census.seen, "scores": scores, "best": best, "errors": errors}
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
