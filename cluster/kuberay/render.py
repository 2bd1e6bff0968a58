"""From spec files to manifest files: one cluster spec, and any number of jobs and endpoints for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.front_door import KINDS
from cluster.kuberay.manifests import ray_cluster, ray_job, ray_service
from cluster.kuberay.naming import run_name
from cluster.kuberay.text import yaml_text
from cluster.resources import fits
from cluster.spec.description import ClusterSpec
from cluster.spec.document import Document, read_document
from cluster.spec.load import LoadedSpec, check_document
from cluster.spec.problems import Problem, SpecError, dotted
from cluster.spec.validate import validate

HEADER = "# Rendered by `equi cluster render kuberay`; change the spec, not this file.\n"


def render_kuberay(
    paths: Sequence[Path], overrides: Sequence[str] = (), *, run_id: str | None = None
) -> dict[str, bytes]:
    """File name -> manifest: RayCluster for the cluster spec, RayJob for a job, RayService for an endpoint.

    overrides: of the cluster spec. run_id: of the job, if there is one; by default it follows from its content.
    Raises SpecError for what is wrong with a spec, UserError for specs that do not go together.
    """
    documents = [read_document(path) for path in paths]
    clusters = [path for path, document in zip(paths, documents, strict=True) if _kind(document) == "cluster"]
    if len(clusters) != 1:
        found = ", ".join(f"{path} ({_kind(d)})" for path, d in zip(paths, documents, strict=True))
        raise UserError(
            f"found {len(clusters)} specs of kind cluster: {found}",
            allowed="exactly one, and beside it jobs and endpoints",
        )
    cluster: ClusterSpec = check_document(read_document(clusters[0], overrides)).spec
    if cluster.backend != "kuberay":
        raise UserError(f"{clusters[0]} has the backend {cluster.backend}", allowed="backend: kuberay")
    files = {"raycluster.yaml": _file(ray_cluster(cluster))}
    for document in documents:
        kind = _kind(document)
        if kind == "cluster":
            continue
        name, content = _endpoint(cluster, document) if kind == "endpoint" else _job(cluster, document, run_id)
        if name in files:
            raise UserError(f"two of the specs would become {name}", allowed="each job and endpoint once")
        files[name] = content
    return files


def _job(cluster: ClusterSpec, document: Document, run_id: str | None) -> tuple[str, bytes]:
    loaded = check_document(document, capacity=cluster.most())
    if KINDS[loaded.kind].runner is None:
        raise UserError(f"a spec of kind {loaded.kind} is no job")
    _refuse_too_large(cluster, loaded)
    resolved = loaded.resolved()
    name = str(resolved.get("name") or loaded.kind)
    run_id = run_id or run_name(loaded.kind, name, json.dumps([resolved, cluster.store], sort_keys=True))
    return f"rayjob-{run_id}.yaml", _file(*ray_job(cluster, run_id, loaded.kind, resolved))


def _endpoint(cluster: ClusterSpec, document: Document) -> tuple[str, bytes]:
    # Its kind's own check looks for the token file on this machine; on the cluster it is a Secret.
    spec = validate(document, KINDS["endpoint"].model())
    resolved: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    if resolved["auth"] is None:
        message = "an endpoint on a cluster is reachable from outside its pod, so it needs tokens"
        raise _problem(document, ("auth",), message, "auth: {token_file: ...}; becomes the Secret <name>-tokens")
    replicas = resolved["replicas"]
    lacking = fits(
        workers=replicas["max"], cpus=replicas["cpus"], gpus=replicas["gpus"], groups=cluster.groups(), of="replica"
    )
    if lacking:
        raise _problem(document, ("replicas", "max"), lacking)
    return f"rayservice-{resolved['name']}.yaml", _file(ray_service(cluster, resolved))


def _refuse_too_large(cluster: ClusterSpec, loaded: LoadedSpec) -> None:
    """A worker lives on one node: what all nodes have together, which the kind's check compares, may not do."""
    asked = getattr(loaded.spec, "resources", None)
    if asked is None or not hasattr(asked, "cpus_per_worker"):
        return
    lacking = fits(
        workers=asked.workers, cpus=asked.cpus_per_worker, gpus=asked.gpus_per_worker, groups=cluster.groups()
    )
    if lacking:
        raise _problem(loaded.document, ("resources", "workers"), lacking)


def _problem(document: Document, path: tuple[str, ...], message: str, allowed: str | None = None) -> SpecError:
    return SpecError([Problem(document.place(path), dotted(path), message, allowed)])


def _kind(document: Document) -> str:
    return str(document.data.get("kind", "of no kind"))


def _file(*documents: Any) -> bytes:
    return (HEADER + yaml_text(*documents)).encode()
