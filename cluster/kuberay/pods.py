"""The pods of a Ray cluster: one template for the head, one for each group of workers.

Both run as a user without rights. Secrets are referred to by name; their values are in no manifest.
"""

from importlib.metadata import version
from typing import Any

from cluster.spec.description import ClusterSpec, WorkerGroup, bytes_of

USER = 1000  # that infra/docker makes
SHARED_MEMORY = 0.3  # of a node's memory for Ray's object store, which a container's 64 MB of /dev/shm cannot hold
GPU = "nvidia.com/gpu"
ACCELERATOR = "equimodels/accelerator"
CONFIGURATION = "/etc/equimodels"  # specs and tokens are mounted below it
TOKENS, SECRET = f"{CONFIGURATION}/tokens", f"{CONFIGURATION}/secret"
Mounts = list[tuple[dict[str, Any], str]]  # a volume, and the folder where it appears
PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}


def head_pod(spec: ClusterSpec, *, mounts: Mounts | None = None) -> dict[str, Any]:
    """Template of the head. mounts: further volumes and where they go."""
    resources = {"cpu": str(spec.head.cpus), "memory": spec.head.memory}
    container = _container(spec, "ray-head", spec.head.image or _image(spec, "cpu"), resources)
    container["ports"] = [{"name": name, "containerPort": port} for name, port in PORTS.items()]
    return _pod(spec, container, spec.head.memory, mounts or [], {})


def worker_pod(spec: ClusterSpec, group: WorkerGroup, *, tokens: str | None = None) -> dict[str, Any]:
    """Template of the workers of a group. tokens: Secret whose files they find in `TOKENS`, for them alone to read."""
    resources = {"cpu": str(group.cpus), "memory": group.memory}
    image = group.image or _image(spec, "cuda" if group.per_node else "cpu")
    placement: dict[str, Any] = {"nodeSelector": dict(group.node_selector)} if group.node_selector else {}
    if group.per_node:
        resources[GPU] = str(group.per_node)
        placement.setdefault("nodeSelector", {ACCELERATOR: str(group.type)})
        placement["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    container = _container(spec, "ray-worker", image, resources)
    container["ports"] = [{"name": "metrics", "containerPort": PORTS["metrics"]}]
    if tokens is None:
        return _pod(spec, container, group.memory, [], placement)
    copy: Mounts = [({"name": "tokens", "emptyDir": {"medium": "Memory"}}, TOKENS)]
    template = _pod(spec, container, group.memory, copy, placement)
    _copy_privately(template["spec"], tokens)
    return template


def _copy_privately(pod: dict[str, Any], secret: str) -> None:
    """Before the worker starts, copy a Secret's files to `TOKENS` with mode 0400.

    Mounted as they are, its files are root's, and readable by us only together with our group: endpoints refuse token
    files that a group can read.
    """
    worker = pod["containers"][0]
    pod["volumes"].append({"name": "tokens-secret", "secret": {"secretName": secret, "defaultMode": 0o440}})
    pod["initContainers"] = [
        {
            "name": "copy-tokens",
            "image": worker["image"],
            "command": ["sh", "-c", f"umask 077 && cp {SECRET}/* {TOKENS}/"],
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
            "securityContext": dict(worker["securityContext"]),
            "volumeMounts": [
                {"name": "tokens-secret", "mountPath": SECRET, "readOnly": True},
                {"name": "tokens", "mountPath": TOKENS},
            ],
        }
    ]


def _image(spec: ClusterSpec, flavour: str) -> str:
    """The cluster's image, or the one that infra/docker builds for this version."""
    return spec.image or f"equimodels:{version('equimodels')}-{flavour}"


def _container(spec: ClusterSpec, name: str, image: str, resources: dict[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        # Equal, so that a node is never promised twice and Ray counts what it really has.
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    if spec.environment:
        container["env"] = [{"name": key, "value": value} for key, value in sorted(spec.environment.items())]
    if spec.store_secret_name:
        container["envFrom"] = [{"secretRef": {"name": spec.store_secret_name}}]
    return container


def _pod(
    spec: ClusterSpec,
    container: dict[str, Any],
    memory: str,
    mounts: Mounts,
    placement: dict[str, Any],
) -> dict[str, Any]:
    shared = f"{int(bytes_of(memory) * SHARED_MEMORY) // 2**20}Mi"
    volumes = [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared}}]
    for volume, path in mounts:
        volumes.append(volume)
        container["volumeMounts"].append({"name": volume["name"], "mountPath": path, "readOnly": True})
    pod: dict[str, Any] = {
        "restartPolicy": "Never",  # autoscaler v2 replaces pods; one that restarts behind its back confuses it
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
        **placement,
    }
    if spec.service_account:
        pod["serviceAccountName"] = spec.service_account
    return {"spec": pod}
