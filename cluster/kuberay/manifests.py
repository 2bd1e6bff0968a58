"""RayCluster, RayJob and RayService from specs, as plain data.

A job and an endpoint each bring their own cluster, made like the one that the cluster spec describes: it lives as long
as they do, and nothing else runs on it. Checked against the schemas of KubeRay's resources (ray.io/v1), not on a
Kubernetes cluster.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from cluster.kuberay.naming import metadata
from cluster.kuberay.pods import CONFIGURATION, PORTS, TOKENS, Mounts, head_pod, worker_pod
from cluster.kuberay.text import yaml_text
from cluster.spec.description import ClusterSpec

API = "ray.io/v1"
RAY_VERSION = "2.60.0"  # the images'; KubeRay decides by it which options a head is started with
TOKEN_SECRET = "{name}-token"  # unless the spec names one; KubeRay reads the key auth_token
KEEP_JOB_S = 3600  # a finished job's cluster is gone at once, its object stays for an hour to be looked at
SPEC_FILE, TOKENS_FILE = "spec.yaml", "tokens"


def ray_cluster(spec: ClusterSpec) -> dict[str, Any]:
    """A standing cluster that grows and shrinks with what is asked of it."""
    return {
        "apiVersion": API,
        "kind": "RayCluster",
        "metadata": metadata(spec, spec.name),
        "spec": _cluster(spec, grows=True),
    }


def ray_job(spec: ClusterSpec, run_id: str, kind: str, resolved: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A run: its spec as a ConfigMap, and the job that reads it.

    The same manifest applied again is the same run. With a queue the job waits for Kueue, which counts on a fixed
    size: every group then has its largest number of nodes, and nothing scales.
    """
    spec_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(spec, run_id),
        "data": {SPEC_FILE: yaml_text(resolved)},
    }
    mounts: Mounts = [({"name": "spec", "configMap": {"name": run_id}}, f"{CONFIGURATION}/spec")]
    extra = {"kueue.x-k8s.io/queue-name": spec.queue} if spec.queue else {}
    job = {
        "apiVersion": API,
        "kind": "RayJob",
        "metadata": metadata(spec, run_id, extra),
        "spec": {
            "entrypoint": f"python -m cluster.kuberay.entry --store {shlex.quote(spec.store)} --run {run_id} "
            f"--spec {CONFIGURATION}/spec/{SPEC_FILE}",
            "metadata": {"run": run_id, "kind": kind},
            "submissionMode": "K8sJobMode",
            "backoffLimit": 2,  # new clusters, when this one is lost; the run goes on from its last checkpoint
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEEP_JOB_S,
            "rayClusterSpec": _cluster(spec, grows=spec.queue is None, on_head=mounts),
        },
    }
    return [spec_map, job]


def ray_service(spec: ClusterSpec, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """An endpoint: Ray Serve with the application of `serve.declared`, replaced without an interruption.

    resolved: of an endpoint spec that has `auth`. Its token file is the key `tokens` of the Secret <name>-tokens.
    """
    name = str(resolved["name"])
    inside = {
        **resolved,
        "auth": {"token_file": f"{TOKENS}/{TOKENS_FILE}"},
        "http": {**resolved["http"], "host": "0.0.0.0", "port": PORTS["serve"]},  # Kubernetes' Service is in front
    }
    application = {
        "name": name,
        "import_path": "serve.declared:application",
        "route_prefix": resolved["http"]["prefix"],
        "args": {"spec": inside, "store": spec.store},
    }
    options = {"host": "0.0.0.0", "port": PORTS["serve"]}
    serving = {"http_options": options, "applications": [application]}
    return {
        "apiVersion": API,
        "kind": "RayService",
        "metadata": metadata(spec, name),
        "spec": {
            "serveConfigV2": yaml_text(serving),
            "rayClusterConfig": _cluster(spec, grows=True, tokens=f"{name}-tokens"),
        },
    }


def _cluster(spec: ClusterSpec, *, grows: bool, on_head: Mounts | None = None, tokens: str | None = None) -> Any:
    cluster: dict[str, Any] = {
        "rayVersion": RAY_VERSION,
        "authOptions": {
            "mode": "token",
            "secretName": spec.token_secret_name or TOKEN_SECRET.format(name=spec.name),
        },
        "enableInTreeAutoscaling": grows,
        "headGroupSpec": {
            # No CPUs for Ray: work on the head could take its memory, and with it the whole cluster.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head_pod(spec, mounts=on_head),
        },
        "workerGroupSpecs": [_group(spec, name, grows, tokens) for name in spec.workers],
    }
    if grows:
        cluster["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": spec.idle_seconds}
    return cluster


def _group(spec: ClusterSpec, name: str, grows: bool, tokens: str | None) -> dict[str, Any]:
    group = spec.workers[name]
    least = group.count.min if grows else group.count.max
    return {
        "groupName": name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": group.count.max,
        "rayStartParams": {},
        "template": worker_pod(spec, group, tokens=tokens),
    }
