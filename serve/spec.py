"""The spec of an online endpoint (`kind: endpoint`).

One endpoint serves one model of the registry for one task over HTTP. An alias in `model` (`ethanol@prod`) is
resolved when the endpoint is deployed, and the version it meant then is written down; it does not move by
itself.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

Task = Literal["energy_forces", "embed"]
MODEL_REFERENCE = r"^[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?$"


class Frozen(BaseModel):
    """An immutable piece of the spec; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Batching(Frozen):
    """What may share one forward pass. A batch goes out when it is full or its oldest item has waited
    `max_wait_ms`."""

    max_atoms: PositiveInt | None = Field(
        default=None, description="atoms in a batch; energy_forces, 20000 unless given"
    )
    max_pixels: PositiveInt | None = Field(default=None, description="pixels in a batch; embed, 1048576 unless given")
    max_items: PositiveInt = Field(default=64, description="structures or images in a batch, whatever their size")
    max_wait_ms: NonNegativeFloat = Field(default=5.0, le=10_000, description="milliseconds")


class Replicas(Frozen):
    """How many processes answer, and what each may use."""

    min: PositiveInt = 1
    max: PositiveInt = 1
    target_ongoing: PositiveFloat = Field(default=4.0, description="requests in flight per replica that are aimed at")
    cpus: PositiveFloat = Field(default=1.0, description="CPU cores of one replica")
    gpus: NonNegativeFloat = Field(default=0.0, description="GPUs of one replica; fractions share one")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}; allowed: at least min, which is {self.min}")
        return self


class Http(Frozen):
    """Where the endpoint listens. The default is this machine only."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0: any free port")] = 8000
    prefix: str = Field(
        default="/",
        pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$",
        description="path under which this endpoint lives; needed once two share a cluster",
    )


class Auth(Frozen):
    """Who may ask. Tokens are compared with the `Authorization: Bearer` header of every /v1 request."""

    token_file: Path = Field(description="one token per line, '#' starts a comment; read where the replicas run")

    @field_validator("token_file")
    @classmethod
    def _from_anywhere(cls, path: Path) -> Path:
        if not path.expanduser().is_absolute():
            raise ValueError(f"token_file is {path}; allowed: an absolute path, or one that starts with ~/")
        return path


class Limits(Frozen):
    """What is refused before it costs anything."""

    max_items_per_request: PositiveInt = Field(default=256, description="structures or images; more: 413")
    max_body_mb: PositiveFloat = Field(default=16.0, description="megabytes of request body; more: 413")
    max_queued_items: PositiveInt = Field(default=1024, description="waiting items per replica; more: 503, Retry-After")
    max_pairs: PositiveInt = Field(default=4_000_000, description="neighbour pairs of one structure; more: 413")
    min_distance_ang: NonNegativeFloat = Field(default=0.3, description="closest allowed atoms, angstrom; closer: 422")
    timeout_s: PositiveFloat = Field(default=60.0, description="seconds for one request; later: 504")


class EndpointSpec(Frozen):
    """An endpoint as a user writes it."""

    spec_version: Literal[1]
    kind: Literal["endpoint"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="lower case letters, digits and dashes")
    model: str = Field(pattern=MODEL_REFERENCE, description="name@alias, name@version, or name for the latest")
    task: Task
    batching: Batching = Field(default_factory=Batching)
    replicas: Replicas = Field(default_factory=Replicas)
    http: Http = Field(default_factory=Http)
    auth: Auth | None = Field(default=None, description="without it anyone who reaches the port may ask")
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.limits.max_queued_items < self.limits.max_items_per_request:
            raise ValueError(
                f"limits.max_queued_items is {self.limits.max_queued_items}; allowed: at least "
                f"limits.max_items_per_request, which is {self.limits.max_items_per_request}"
            )
        return self

    @model_validator(mode="after")
    def _budget_fits_the_task(self) -> Self:
        wrong = "max_pixels" if self.task == "energy_forces" else "max_atoms"
        if getattr(self.batching, wrong) is not None:
            right = "max_atoms" if self.task == "energy_forces" else "max_pixels"
            raise ValueError(f"batching.{wrong} does not apply to task {self.task}; allowed: {right}, max_items")
        return self

    @model_validator(mode="after")
    def _open_to_the_network_needs_tokens(self) -> Self:
        if self.auth is None and self.http.host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(
                f"http.host {self.http.host} is reachable from outside this machine, so auth.token_file is needed"
            )
        return self

    @property
    def budget(self) -> int:
        """Cost that fits in one batch: atoms for energy_forces, pixels for embed."""
        if self.task == "energy_forces":
            return self.batching.max_atoms or 20_000
        return self.batching.max_pixels or 1_048_576
