"""The HTTP interface of one endpoint: a FastAPI application that knows no Ray.

    POST /v1/energy_forces or /v1/embed    by task
    GET  /v1/model                         what is served and what is accepted
    GET  /healthz  /openapi.json  /docs    open, whatever the tokens

Every answer that is not 2xx has the body {"error": {"code", "message", "where"}}.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Security
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from cluster.metrics import Meter
from serve.auth import BearerAuth, Tokens
from serve.batching import Budget, MicroBatcher
from serve.body_limit import BodyLimit
from serve.docs_page import CONTENT_SECURITY_POLICY, render_docs
from serve.health import Health
from serve.predictors.interface import Predictor
from serve.rejection import RejectedError
from serve.request_metrics import RequestMetrics
from serve.schemas import (
    UNITS,
    EmbedRequest,
    EmbedResponse,
    EnergyForcesRequest,
    EnergyForcesResponse,
    ErrorResponse,
    HealthResponse,
    ModelResponse,
)
from serve.spec import EndpointSpec

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        401: "no token, or one that is not accepted",
        413: "too many items, or one too large, or a body too large",
        422: "a value that the model cannot take; `where` names it",
        500: "the model failed on this item",
        503: "too many items are waiting; see Retry-After",
        504: "not answered within the time limit",
    }.items()
}


@dataclass(frozen=True)
class Served:
    """One model in place: what the routes need. Made once per process, on the event loop that serves."""

    spec: EndpointSpec
    model: str  # name@version
    predictor: Predictor[Any, Any, Any]
    batcher: MicroBatcher[Any, Any]
    health: Health
    meter: Meter | None = None

    @classmethod
    def of(
        cls, spec: EndpointSpec, model: str, predictor: Predictor[Any, Any, Any], meter: Meter | None = None
    ) -> "Served":
        """Batcher and health check by the spec. meter: has the labels endpoint and model; None measures nothing."""

        def on_batch(items: int, queued: int) -> None:
            if meter is not None:
                meter.observe("equi_batch_items", items)
                meter.set("equi_queued_items", queued)

        budget = Budget(spec.budget, spec.batching.max_items, spec.batching.max_wait_ms / 1000)
        batcher = MicroBatcher(predictor.predict, budget, max_queued=spec.limits.max_queued_items, on_batch=on_batch)
        health = Health(batcher, predictor.probe, predictor.cost(predictor.probe()))
        return cls(spec, model, predictor, batcher, health, meter)

    async def answer(self, field: str, raw: Sequence[Any]) -> list[Any]:
        """Check, batch and answer the items of the request's `field`. Raises RejectedError."""
        limits = self.spec.limits
        if len(raw) > limits.max_items_per_request:
            message = f"{len(raw)} items in one request; allowed: at most {limits.max_items_per_request}"
            raise RejectedError(413, "too_many", message, where=(field,))
        try:
            async with asyncio.timeout(limits.timeout_s):
                # In a thread, because the neighbour lists of a large request would hold up every other
                # caller.
                items = await asyncio.to_thread(self._prepare, field, raw)
                return await self.batcher.submit(items, [self.predictor.cost(item) for item in items])
        except TimeoutError as error:
            raise RejectedError(504, "timeout", f"not answered within {limits.timeout_s:g} s") from error
        except RejectedError as error:
            if error.where and isinstance(error.where[0], int):  # the batcher counts from the first item
                raise error.at(field) from error
            raise

    def _prepare(self, field: str, raw: Sequence[Any]) -> list[Any]:
        items = []
        for index, item in enumerate(raw):
            try:
                items.append(self.predictor.prepare(item))
            except RejectedError as error:
                raise error.at(field, index) from error
        return items


def build_app(served: Served, *, reference: str | None = None, tokens: Tokens | None = None) -> FastAPI:
    """The application. reference: the model as the spec names it (an alias, perhaps). tokens: None lets
    anyone in."""
    spec = served.spec
    app = FastAPI(
        title=f"{spec.name}: {spec.task} by {served.model}",
        version="1",
        description=(
            "Positions in angstrom, energies in eV, forces in eV/angstrom. "
            if spec.task == "energy_forces"
            else "Embeddings of images; compare them only within one `space`. "
        )
        + "Every request is a pure function of its body: it may be sent again.",
        docs_url=None,
        redoc_url=None,
    )
    guard = [Security(HTTPBearer(auto_error=False, description="a token of the endpoint's token file"))]
    v1 = APIRouter(prefix="/v1", dependencies=guard if tokens else [], responses=ERRORS)
    if spec.task == "energy_forces":
        _add_energy_forces(v1, served)
    else:
        _add_embed(v1, served)
    _add_model(v1, served, reference or spec.model)
    app.include_router(v1)
    _add_open_routes(app, served)
    _add_error_answers(app)
    app.add_middleware(BodyLimit, max_bytes=int(spec.limits.max_body_mb * 1e6))
    if tokens is not None:
        app.add_middleware(BearerAuth, tokens=tokens)  # added after, so it is asked before
    if served.meter is not None:
        app.add_middleware(RequestMetrics, meter=served.meter)
    return app


def _add_energy_forces(v1: APIRouter, served: Served) -> None:
    @v1.post("/energy_forces", response_model=EnergyForcesResponse, summary="Energies and forces of molecules")
    async def energy_forces(body: EnergyForcesRequest) -> JSONResponse:
        """One energy (eV) and n x 3 forces (eV/angstrom) per structure, in order. Forces are minus the
        gradient of the energy. Structures of many requests share a forward pass; that changes the last digits
        only."""
        answers = await served.answer("structures", body.structures)
        results = [{"energy": answer.energy, "forces": answer.forces.tolist()} for answer in answers]
        # Made of floats just now: checking 10^5 of them again against the response model would take longer
        # than the model.
        return JSONResponse({"model": served.model, "units": UNITS, "results": results})


def _add_embed(v1: APIRouter, served: Served) -> None:
    space, dim = served.predictor.facts["space"], served.predictor.facts["dim"]

    @v1.post(
        "/embed",
        response_model=EmbedResponse,
        summary="Embeddings of images",
        responses={409: {"model": ErrorResponse, "description": "the embeddings live in another space"}},
    )
    async def embed(body: EmbedRequest) -> JSONResponse:
        """One embedding of Euclidean length 1 per image, in order. Send back the `space` of an earlier answer
        to be sure that the two may be compared."""
        if body.space is not None and body.space != space:
            message = f"embeddings of this endpoint live in space {space}, not in {body.space}"
            raise RejectedError(409, "other_space", message, where=("space",))
        answers = await served.answer("images", body.images)
        return JSONResponse(
            {
                "model": served.model,
                "space": space,
                "dim": dim,
                "normalised": True,
                "embeddings": [answer.tolist() for answer in answers],
            }
        )


def _add_model(v1: APIRouter, served: Served, reference: str) -> None:
    spec = served.spec

    @v1.get("/model", response_model=ModelResponse, summary="What is served here")
    async def model() -> ModelResponse:
        """The model, what it accepts, and the limits of this endpoint."""
        batching = {"budget": spec.budget, "max_items": spec.batching.max_items}
        return ModelResponse(
            endpoint=spec.name,
            model=served.model,
            reference=reference,
            task=spec.task,
            facts=dict(served.predictor.facts),
            limits={**spec.limits.model_dump(mode="json"), "batching": batching},
        )


def _add_open_routes(app: FastAPI, served: Served) -> None:
    unhealthy: dict[int | str, dict[str, Any]] = {
        503: {"model": ErrorResponse, "description": "the probe did not come back"}
    }

    @app.get("/healthz", response_model=HealthResponse, summary="Alive?", responses=unhealthy)
    async def healthz() -> HealthResponse:
        """200 once a probe has come back through the batcher and the model within the last second; else
        503."""
        await served.health.check()
        return HealthResponse(status="ok", model=served.model)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        page = render_docs(app.openapi(), base=str(request.scope.get("root_path", "")))
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(RejectedError)
    async def rejected(_: Request, error: RejectedError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats the input, which cannot be written as JSON where it holds NaN.
        problems = error.errors()
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = tuple(part for part in first["loc"] if part != "body")
        refusal = RejectedError(422, "invalid", f"{first['msg']}{more}", where=where)
        return JSONResponse(refusal.body(), refusal.status)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(
            error.status_code, "bad_request"
        )
        return JSONResponse(
            RejectedError(error.status_code, code, str(error.detail)).body(), error.status_code, error.headers
        )

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(RejectedError(500, "internal", f"an error of ours: {type(error).__name__}").body(), 500)
