"""What the radial bases have in common: how they are built, and how their settings meet the cutoff of the model."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from equimodels.components import radial_bases
from equimodels.errors import SettingError, require
from equimodels.settings import settings


def build_radial(embedding: Mapping[str, Any], *, cutoff: float) -> nn.Module:
    """The basis named by `embedding["radial"]`, {"name": ..., "params": {...}}, for a model of this cutoff in angstrom.

    A radial basis is a module made as `target(config, cutoff=...)`, with attributes `number` and `cutoff`; it maps
    distances (E,) in angstrom, > 0, to (E, number) and vanishes at and beyond `cutoff` with two continuous derivatives.
    `equimodels.testing.RadialContract` checks that. Raises SettingError and UnknownComponentError.
    """
    allowed = 'a radial basis, such as {"radial": {"name": "bessel", "params": {"number": 8}}}'
    wanted = embedding.get("radial")
    if not isinstance(wanted, Mapping) or "name" not in wanted or set(wanted) - {"name", "params"}:
        raise SettingError("embedding", dict(embedding), allowed)
    name, params = wanted["name"], wanted.get("params") or {}
    build: Any = radial_bases.find(name).target
    basis = build(settings(radial_bases, name, params), cutoff=cutoff)
    if not isinstance(basis, nn.Module):
        raise TypeError(f"radial basis {name!r} built a {type(basis).__name__}, not a module")
    return basis


def effective_cutoff(wanted: float | None, model: float) -> float:
    """The cutoff of a basis: the model's, or the shorter one of the settings. Raises SettingError for a longer one."""
    if wanted is None:
        return model
    require(wanted <= model, "cutoff", wanted, f"at most the cutoff of the model, {model} angstrom")
    return wanted


def check_radial(number: int, cutoff: float | None) -> None:
    """The checks every radial basis makes on its settings. Raises SettingError."""
    require(number >= 1, "number", number, "at least 1")
    require(cutoff is None or cutoff > 0, "cutoff", cutoff, "positive, in angstrom, or null for that of the model")
