"""Requests and answers of the HTTP interface, with units and examples: the source of the OpenAPI document.

Shapes: n atoms of one structure. Positions in angstrom, energies in eV, forces in eV/angstrom; pixel values
as the model was trained on them.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

Vector = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]
Row = list[FiniteFloat]

WATER: dict[str, JsonValue] = {
    "numbers": [8, 1, 1],
    "positions": [[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]],
}
UNITS: dict[str, JsonValue] = {"energy": "eV", "forces": "eV/angstrom", "positions": "angstrom"}


class Request(BaseModel):
    """A request body; an unknown key is an error, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class StructureIn(Request):
    """One molecule: n atoms, not periodic."""

    numbers: list[Annotated[int, Field(ge=1, le=118)]] = Field(min_length=1, description="atomic numbers, n")
    positions: list[Vector] = Field(min_length=1, description="angstrom, n x 3")


class EnergyForcesRequest(Request):
    """Structures to evaluate; each is independent of the others."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"structures": [WATER]}})

    structures: list[StructureIn] = Field(min_length=1)


class EnergyForcesOut(BaseModel):
    """What the model says about one structure."""

    energy: float = Field(description="total energy, eV, in the reference of the training data")
    forces: list[list[float]] = Field(description="minus the gradient of the energy, eV/angstrom, n x 3")


class EnergyForcesResponse(BaseModel):
    """One result per structure, in the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "ethanol@1",
                "units": UNITS,
                "results": [{"energy": -137.97, "forces": [[0.0, 0.0, 0.11], [0.0, 0.2, -0.055], [0.0, -0.2, -0.055]]}],
            }
        }
    )

    model: str = Field(description="name@version that answered")
    units: dict[str, str]
    results: list[EnergyForcesOut]


class EmbedRequest(Request):
    """Images of the shape the model was trained on: rows of pixels, or channels of rows of pixels."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"images": [[[0.0, 0.5], [1.0, 0.0]]]}})

    images: list[list[Row] | list[list[Row]]] = Field(
        min_length=1, description="height x width each, or channels x height x width"
    )
    space: str | None = Field(
        default=None,
        description="refuse (409) unless the embeddings live in this space, as an earlier answer named it",
    )


class EmbedResponse(BaseModel):
    """One embedding per image, in the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits@1",
                "space": "digits-3f2a9c41d0b7",
                "dim": 4,
                "normalised": True,
                "embeddings": [[0.5, -0.5, 0.5, -0.5]],
            }
        }
    )

    model: str = Field(description="name@version that answered")
    space: str = Field(description="embeddings may be compared only within one space; it changes with the weights")
    dim: int = Field(description="length of each embedding")
    normalised: bool = Field(description="true: each embedding has Euclidean length 1")
    embeddings: list[list[float]]


class ModelResponse(BaseModel):
    """What is served here."""

    endpoint: str
    model: str = Field(description="name@version, resolved when this endpoint was deployed")
    reference: str = Field(description="the reference in the spec, which may be an alias")
    task: str
    facts: dict[str, Any] = Field(description="what the model accepts and where it comes from")
    limits: dict[str, Any] = Field(description="what this endpoint refuses")


class HealthResponse(BaseModel):
    """Whether a probe just came back through the batcher and the model."""

    status: str
    model: str


class ErrorDetail(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="stable word for programs")
    message: str = Field(description="a sentence for people, with units")
    where: list[str | int] = Field(description="place in the request body")


class ErrorResponse(BaseModel):
    """The body of every answer that is not 2xx."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "code": "unknown_species",
                    "message": "atomic number 79 (Au) was not in the training data; known: 1 (H), 6 (C), 8 (O)",
                    "where": ["structures", 0, "numbers", 4],
                }
            }
        }
    )

    error: ErrorDetail
