"""One process that answers: fetches the model, builds the application, and tells Ray Serve whether it is alive."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve as ray_serve

from cluster.metrics import Meter
from cluster.registry import fetch_model
from cluster.store import open_store
from serve.app import Served, build_app
from serve.auth import Tokens, read_tokens
from serve.predictors.loading import load_predictor
from serve.rejection import RejectedError
from serve.spec import EndpointSpec


@ray_serve.ingress()  # the application is built in the replica, by __serve_build_asgi_app__
class EndpointReplica:
    """A replica of an endpoint. Its arguments are plain data, so that nothing has to be pickled by value."""

    def __init__(self, spec: dict[str, Any], store_uri: str, model: str) -> None:
        """spec: of the endpoint, as JSON. model: name@version in the registry of the store."""
        self.spec = EndpointSpec.model_validate(spec)
        torch.set_num_threads(max(1, int(self.spec.replicas.cpus)))
        device = "cuda" if self.spec.replicas.gpus > 0 and torch.cuda.is_available() else "cpu"
        # Tokens first: a missing file must not cost the time that the weights take.
        self.tokens = Tokens(read_tokens(self.spec.auth.token_file)) if self.spec.auth else None
        with tempfile.TemporaryDirectory(prefix="equi-model-") as folder:
            fetch_model(open_store(store_uri), model, Path(folder))
            predictor = load_predictor(Path(folder), self.spec, model=model, device=device)
        predictor.predict([predictor.probe()])  # warm-up: the first caller does not wait for lazy initialisation
        self.served = Served.of(self.spec, model, predictor, Meter(endpoint=self.spec.name, model=model))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once the constructor is through."""
        return build_app(self.served, tokens=self.tokens)

    async def check_health(self) -> None:
        """Called by Ray Serve every few seconds; an exception makes it replace this replica."""
        try:
            await self.served.health.check()
        except RejectedError as error:
            raise RuntimeError(error.message) from error
