"""The runner of kind `label`: structures sampled or taken as given, labelled chunk by chunk, and published."""

from typing import Any

from cluster.context import RunContext
from cluster.errors import UserError
from jobs.label.run_dynamics import run_dynamics
from jobs.label.run_given import run_given
from jobs.spec.label import GivenSampling, LabelSpec, TrajectorySplit


def run(spec: LabelSpec, context: RunContext) -> dict[str, Any]:
    """Label, publish, and return `dataset` (name@version), `rows`, `splits`, `failed`, `digest`.

    Raises UserError where the method cannot compute what it is given, or nothing is left to publish.
    """
    if isinstance(spec.sampling, GivenSampling):
        published = run_given(spec, spec.sampling.params, context)
    elif isinstance(spec.split, TrajectorySplit):
        published = run_dynamics(spec, spec.sampling.params, spec.split, context)
    else:
        raise UserError(f"molecular dynamics is split by trajectory, not by {spec.split.by}")
    manifest = published.manifest
    if published.notice:
        context.progress.say(published.notice)
    return {
        "dataset": manifest.ref,
        "rows": manifest.rows,
        "splits": dict(manifest.splits),
        "failed": manifest.skipped.count,
        "digest": manifest.digest,
    }
