"""What a RayJob runs: `python -m cluster.kuberay.entry --store URI --run ID --spec FILE`.

Nobody submits such a run with `equi submit`, so this makes its record, and then it is a run like any other. KubeRay
starts a job again on a new cluster when it loses one: a run that is there already goes on as its next attempt.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from cluster.code_version import code_version
from cluster.driver import run_driver
from cluster.errors import ConflictError, UserError
from cluster.run_status import SILENT_S
from cluster.runs import Where, create_run, judge_run, key, load_run, next_attempt
from cluster.store import Store, open_store

JOB_ID = "RAY_JOB_SUBMISSION_ID"  # Ray tells a job's entry point its own id
PATIENCE_S = 3 * SILENT_S  # for the verdict on a driver that fell silent


def main(arguments: list[str] | None = None) -> int:
    """Make the run or take it over, and drive it. Exit codes are those of the driver; 0 if there is nothing to do."""
    parser = argparse.ArgumentParser(prog="python -m cluster.kuberay.entry", description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="URI of the store")
    parser.add_argument("--run", required=True, help="id of the run")
    parser.add_argument("--spec", required=True, type=Path, help="the resolved spec")
    options = parser.parse_args(arguments)
    try:
        store = open_store(options.store)
        store.check_writable()
        text = options.spec.read_text(encoding="utf-8")
        ready = prepare(store, options.run, text, Where(mode="cluster", submission_id=os.environ.get(JOB_ID)))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_driver(store, options.run, home=Path(".equi")) if ready else 0


def prepare(
    store: Store,
    run_id: str,
    text: str,
    where: Where,
    *,
    sleep: Callable[[float], None] = time.sleep,
    patience_s: float = PATIENCE_S,
) -> bool:
    """Make the run pending, and say whether it shall be driven: not if it has succeeded or was stopped by request.

    text: the resolved spec, YAML. Raises ConflictError if the id belongs to another spec, if the run has failed by
    itself (the same again would fail again), or if another driver still works on it.
    """
    spec = YAML(typ="safe").load(text)
    kind = str(spec["kind"])
    try:
        create_run(
            store,
            kind=kind,
            name=str(spec.get("name") or kind),
            spec=text,
            run_id=run_id,
            where=where,
            code_version=code_version(),
        )
    except ConflictError:
        return _take_over(store, run_id, text, where, sleep, patience_s)
    return True


def _take_over(
    store: Store, run_id: str, text: str, where: Where, sleep: Callable[[float], None], patience_s: float
) -> bool:
    record, verdict = judge_run(store, load_run(store, run_id))
    if record.spec_digest != hashlib.sha256(text.encode()).hexdigest():
        raise ConflictError(f"a run with the id {run_id} exists already, and its spec is another one")
    if record.status == "pending":  # its maker ended before the driver began; the spec may be missing
        store.write(key(run_id, "spec.yaml"), text.encode())
        return True
    waited = 0.0
    while verdict.status == "running":  # a driver that is gone counts as running until it was silent long enough
        if waited >= patience_s:
            raise ConflictError(f"run {run_id} is driven elsewhere: it still gives signs of life")
        sleep(5.0)
        waited += 5.0
        record, verdict = judge_run(store, load_run(store, run_id))
    if verdict.status == "succeeded" or (verdict.status == "stopped" and record.stop_requested):
        return False
    if verdict.status == "failed":
        reason = record.error.message if record.error else "its record does not say why"
        raise ConflictError(f"run {run_id} has failed: {reason}", hint="Render it with another --id for a new run.")
    next_attempt(store, record, verdict, where)
    return True


if __name__ == "__main__":
    sys.exit(main())
