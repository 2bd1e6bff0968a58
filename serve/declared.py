"""An endpoint that a cluster declares (KubeRay's `serveConfigV2`) instead of a driver that deploys it."""

from typing import Any

from ray import serve as ray_serve
from ray.serve import Application

from cluster.registry import resolve
from cluster.store import open_store
from serve.engine import options
from serve.replica import EndpointReplica
from serve.spec import EndpointSpec


def application(arguments: dict[str, Any]) -> Application:
    """Ray Serve calls this with `args` of the application: spec (as JSON) and store (URI).

    An alias in `model` is followed now, once for all replicas. Raises NotFoundError for a model that does not exist.
    """
    spec = EndpointSpec.model_validate(arguments["spec"])
    ref = resolve(open_store(arguments["store"]), spec.model)
    deployment = ray_serve.deployment(EndpointReplica, name="endpoint", **options(spec))
    bound: Application = deployment.bind(arguments["spec"], arguments["store"], f"{ref.name}@{ref.version}")
    return bound
