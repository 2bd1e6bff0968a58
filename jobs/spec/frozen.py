"""The base of every spec model: frozen, no unknown keys, field aliases and names both accepted."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """An immutable piece of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Component(Frozen):
    """A registered component and its settings."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
