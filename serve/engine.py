"""Ray Serve, and nothing else knows it but the replica: start it, deploy, watch, remove.

Facts behind the options: reference/serving.md, section 2. Ray Serve has one HTTP port per cluster; endpoints that
share a cluster share it and differ in their prefix.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client  # the public API does not tell which port Serve listens on
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import ClusterError
from cluster.session import Session
from serve.ports import claim
from serve.replica import EndpointReplica
from serve.spec import EndpointSpec

ONGOING_AT_LEAST = 32  # requests in one replica; Ray Serve's default of 5 never fills a batch
HEAD = "node:__internal_head__"  # resource that Ray gives to the head node only


def listen(spec: EndpointSpec, session: Session) -> tuple[str, int]:
    """Have Ray Serve listen where the spec says; returns host and port. Nothing is started if the port is taken.

    Raises ClusterError if the port is in use, or Ray Serve of this cluster listens elsewhere already.
    """
    _quiet()
    host, port = spec.http.host, spec.http.port
    running = _get_global_client(raise_if_no_controller_running=False)
    if running is not None:
        now = (str(running.http_config.host), int(running.http_config.port))
        if now[0] != host or port not in (0, now[1]):
            raise ClusterError(
                f"Ray Serve of this cluster listens on {now[0]}, port {now[1]} already; a cluster has one HTTP port",
                allowed=f"http.host: {now[0]}, http.port: {now[1]} and an http.prefix of its own",
            )
        return now
    chosen = claim(host, port) if session.embedded else _claim_on_head(host, port)
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": chosen, "request_timeout_s": spec.limits.timeout_s + 5},
        logging_config=_logging(),
    )
    return host, chosen


def submit(spec: EndpointSpec, *, store_uri: str, model: str) -> None:
    """Ask Ray Serve for the replicas; returns at once. Raises ClusterError if it refuses, for a prefix in use."""
    replica = ray_serve.deployment(EndpointReplica, name="endpoint", **options(spec))
    target = ray_serve.RunTarget(
        target=replica.bind(spec.model_dump(mode="json"), store_uri, model),
        name=spec.name,
        route_prefix=spec.http.prefix,
        logging_config=_logging(),
    )
    try:
        ray_serve.run_many([target], wait_for_applications_running=False)
    except (RayServeException, RayError) as error:
        if taken := re.search(r'Prefix \S+ is being used by application "([^"]+)"', str(error)):
            raise ClusterError(
                f"http.prefix {spec.http.prefix} is taken by endpoint {taken[1]} of this cluster; nothing was deployed",
                allowed=f"a prefix of its own, such as /{spec.name}",
            ) from error
        raise ClusterError(f"Ray Serve refuses endpoint {spec.name}: {_last_line(str(error))}") from error


def options(spec: EndpointSpec) -> dict[str, Any]:
    """Settings of the deployment."""
    ongoing = max(ONGOING_AT_LEAST, math.ceil(4 * spec.replicas.target_ongoing))
    chosen: dict[str, Any] = {
        "max_ongoing_requests": ongoing,
        "max_queued_requests": 4 * ongoing * spec.replicas.max,  # unbounded unless set
        "backpressure_config": {"status_code": 503, "retry_after_s": 1},
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
        "graceful_shutdown_timeout_s": 20,
        "max_constructor_retry_count": 3,
        "ray_actor_options": {"num_cpus": spec.replicas.cpus, "num_gpus": spec.replicas.gpus},
    }
    if spec.replicas.min == spec.replicas.max:
        chosen["num_replicas"] = spec.replicas.min
    else:
        chosen["autoscaling_config"] = {
            "min_replicas": spec.replicas.min,
            "max_replicas": spec.replicas.max,
            "target_ongoing_requests": spec.replicas.target_ongoing,
            "downscale_delay_s": 60,  # 600 unless set
        }
    return chosen


def wait_until_running(name: str, *, timeout_s: float, stop: Callable[[], bool]) -> None:
    """Return once all replicas that must run do. Raises ClusterError if they cannot, not in time, or on `stop`."""
    deadline = time.monotonic() + timeout_s
    while True:
        state, message = state_of(name)
        if state == "RUNNING":
            return
        if state == "DEPLOY_FAILED":
            raise ClusterError(f"endpoint {name} could not be deployed: {_last_line(message)}")
        if stop():
            raise ClusterError(f"endpoint {name} was stopped before it was up")
        if time.monotonic() > deadline:
            free = ray.available_resources()
            raise ClusterError(
                f"endpoint {name} is not up after {timeout_s:g} s: {state.lower()} {_last_line(message)}".rstrip(),
                hint=f"Free on the cluster: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU.",
            )
        time.sleep(0.2)


def state_of(name: str) -> tuple[str, str]:
    """State and message of an endpoint in Ray Serve's words; ("ABSENT", "") where it knows none."""
    application = ray_serve.status().applications.get(name)
    if application is None:
        return "ABSENT", ""
    details = [application.message, *(d.message for d in application.deployments.values())]
    return str(application.status.value), "\n".join(text for text in details if text)


def remove(name: str, session: Session) -> None:
    """Take the endpoint down; on a cluster, with the last one Ray Serve too: the next may choose another port.

    An embedded session ends soon after, and takes Ray Serve with it more quietly than its own shutdown goes.
    """
    if name in ray_serve.status().applications:
        ray_serve.delete(name)
    if not session.embedded and not ray_serve.status().applications:
        ray_serve.shutdown()


def _claim_on_head(host: str, port: int) -> int:
    """`claim` on the head node, where the proxy will listen."""
    head = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
    task = ray.remote(claim).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False)
    )
    try:
        return int(ray.get(task.remote(host, port)))
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ClusterError):
            raise cause from None
        raise


def _logging() -> Any:
    # Replicas' lines would run into the driver's progress bar; problems are still told.
    return LoggingConfig(log_level="WARNING", enable_access_log=False)


def _quiet() -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
