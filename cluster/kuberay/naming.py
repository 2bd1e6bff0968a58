"""Names and labels of Kubernetes objects."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from cluster.errors import UserError
from cluster.spec.description import ClusterSpec

LONGEST = 47  # KubeRay appends to the names of jobs, services and clusters and refuses longer ones
LABELS = {"app.kubernetes.io/name": "equimodels", "app.kubernetes.io/managed-by": "equi"}
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def metadata(spec: ClusterSpec, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Of one object. Raises UserError for a name that KubeRay would refuse."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a Kubernetes object",
            allowed=f"1 to {LONGEST} lower-case letters, digits and '-', first a letter, last not '-'",
        )
    return {"name": name, "namespace": spec.namespace, "labels": {**LABELS, **(labels or {})}}


def run_name(kind: str, name: str, content: str) -> str:
    """Run id and job name of a spec: the same content has the same one, any other content another one."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    stem = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")
    return f"{stem[: LONGEST - 9].rstrip('-')}-{digest}"
