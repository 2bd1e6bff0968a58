"""The runner of kind `evaluate`: figures of a model or an endpoint on a split, and its predictions for plots."""

import contextlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.context import RunContext
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.schema import require_kind
from cluster.errors import UserError
from jobs.evaluation.address import endpoint_url
from jobs.evaluation.endpoint import Endpoint, read_token
from jobs.evaluation.frames import frames_of
from jobs.evaluation.images import evaluate_images
from jobs.evaluation.local import local_model
from jobs.evaluation.predictors import Predictor
from jobs.evaluation.structures import evaluate_structures
from jobs.spec.evaluate import EvaluateSpec


def run(spec: EvaluateSpec, context: RunContext) -> dict[str, Any]:
    """Returns `metrics`, `dataset`, `split`, `predictor`, `model`, and `predictions`, a Parquet file on the store.

    Raises UserError (no such dataset, model or endpoint; an endpoint that refuses; a model of another task).
    """
    manifest = load_manifest(context.store, spec.data.uri)
    reference = manifest.ref
    require_kind(manifest, "images" if manifest.kind == "images" else "structures")
    table = read_table(context.store, reference, split=spec.data.split)
    if spec.data.limit is not None:
        table = table.slice(0, spec.data.limit)
    if not len(table):
        raise UserError(f"dataset {reference} has no {spec.data.split} rows")
    with _predictor(spec, context) as predictor:
        figures, predictions = _evaluate(spec, context, predictor, manifest, table)
        name, model = predictor.name, predictor.model
    key = context.key("predictions.parquet")
    sink = BytesIO()
    pq.write_table(predictions, sink)
    context.store.write(key, sink.getvalue())
    return {
        "metrics": figures,
        "dataset": reference,
        "split": spec.data.split,
        "predictor": name,
        "model": model,
        "predictions": key,
    }


def _evaluate(
    spec: EvaluateSpec, context: RunContext, predictor: Predictor, manifest: DatasetManifest, table: pa.Table
) -> tuple[dict[str, float], pa.Table]:
    train = read_table(context.store, manifest.ref, split="train")
    if manifest.kind == "images":
        return evaluate_images(spec, context, predictor, table, train)
    with context.progress.task(f"evaluate {predictor.name}", total=len(table), unit="structures") as task:
        baseline = frames_of(train) if spec.baseline and len(train) else None
        return evaluate_structures(spec, predictor, frames_of(table), baseline, task)


@contextlib.contextmanager
def _predictor(spec: EvaluateSpec, context: RunContext) -> Iterator[Predictor]:
    if spec.endpoint is not None:
        url = endpoint_url(context.store, spec.endpoint)
        with Endpoint(url, token=read_token(spec.token_file), batch=spec.batch) as endpoint:
            yield endpoint
    elif spec.model is not None:
        yield local_model(context.store, spec.model, context.workdir / "model")
    else:
        raise UserError("the spec names neither a model nor an endpoint")
