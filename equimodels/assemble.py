"""From a description, plain JSON, to a model: the one way models are made, in training, on load and in an endpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, Self, cast

from torch import nn

from equimodels.components import models
from equimodels.errors import SettingError
from equimodels.settings import settings

__all__ = ["Buildable", "ModelDescription", "assemble", "settings"]


class Buildable(Protocol):
    """What every registered model class offers."""

    @classmethod
    def build(cls, config: Any, embedding: Mapping[str, Any], facts: Mapping[str, Any]) -> nn.Module:
        """The model with fresh weights, drawn from torch's global generator."""
        ...


@dataclass(frozen=True)
class ModelDescription:
    """All that fixes a model but its weights.

    name: in the registry, or `pkg.module:Class`; params: its settings; embedding: component name and params by role,
    such as {"radial": {"name": "bessel", "params": {"number": 8}}}; facts: what the model learnt from the data before
    training.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    embedding: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values; floats survive `json.dumps` exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises SettingError when a key is missing or unknown."""
        known = {item.name for item in fields(cls)}
        for key in sorted(set(data) ^ known):
            raise SettingError("description", sorted(data), f"exactly the keys {', '.join(sorted(known))}; see {key!r}")
        return cls(**data)


def assemble(description: ModelDescription) -> nn.Module:
    """The described model in the default dtype, with fresh weights from torch's global generator.

    Raises UnknownComponentError and SettingError.
    """
    config = settings(models, description.name, description.params)
    target = cast("type[Buildable]", models.find(description.name).target)
    return target.build(config, description.embedding, description.facts)
