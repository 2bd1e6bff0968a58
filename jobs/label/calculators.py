"""Methods a label spec can name: each makes an ASE calculator (eV, eV/angstrom) from settings.

A calculator is made anew for every block of a trajectory and every chunk of structures, so that no result depends on
which worker ran before.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ase.calculators.calculator import Calculator
from pydantic import BaseModel, ConfigDict, Field

from cluster.errors import NotFoundError, UserError
from jobs.label.geometry import Geometry
from jobs.spec.frozen import Component


class TbliteSettings(BaseModel):
    """Semi-empirical tight binding (Bannwarth, Ehlert and Grimme 2019) by the tblite library."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    charge: int = 0  # e
    multiplicity: int = Field(1, ge=1)
    accuracy: float = Field(1.0, gt=0, le=1000)  # tblite's own scale: 1 is normal, smaller is tighter
    electronic_temperature: float = Field(300.0, ge=0)  # kelvin
    max_iterations: int = Field(250, ge=1)


@dataclass(frozen=True)
class Method:
    """One method: its settings (None: whatever the class accepts), how it is made, which programs it runs."""

    settings: type[BaseModel] | None
    make: Callable[[dict[str, Any]], Calculator]
    programs: tuple[str, ...]  # distributions whose versions belong into the provenance
    told: Mapping[str, str] = field(default_factory=dict)  # settings that a structure's own charge and spin replace

    def calculator(self, params: dict[str, Any]) -> Calculator:
        """A new calculator; raises UserError where the calculator refuses the settings."""
        try:
            return self.make(params if self.settings is None else self.settings(**params).model_dump())
        except (TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise UserError(f"the calculator refuses its settings {params!r}: {error}") from error

    def params_for(self, geometry: Geometry, params: dict[str, Any]) -> dict[str, Any]:
        """The settings with the charge and spin of a structure that has its own."""
        own = {setting: getattr(geometry, name) for name, setting in self.told.items()}
        return {**params, **{setting: value for setting, value in own.items() if value is not None}}

    def versions(self) -> dict[str, str]:
        """Program versions, for the manifest."""
        return {name: importlib.metadata.version(name) for name in self.programs}


def _tblite(params: dict[str, Any]) -> Calculator:
    # Not at the top: loading tblite starts OpenMP, which reads OMP_NUM_THREADS once and for all.
    from tblite.ase import TBLite

    # Zero charge and a closed shell are tblite's own defaults; naming them overrides per-atom charges.
    chosen = {k: v for k, v in params.items() if (k, v) not in (("charge", 0), ("multiplicity", 1))}
    return TBLite(verbosity=0, **chosen)


METHODS: dict[str, Method] = {
    "tblite": Method(TbliteSettings, _tblite, ("tblite", "ase"), {"charge": "charge", "spin": "multiplicity"})
}


def find_method(spec: Component) -> Method:
    """The method called `spec.name`, or an ASE calculator class `pkg.module:Class`. Raises NotFoundError."""
    if ":" not in spec.name:
        if spec.name not in METHODS:
            raise NotFoundError(
                f"no method is called {spec.name!r}",
                allowed=f"{', '.join(METHODS)}, or an ASE calculator as pkg.module:Class",
            )
        return METHODS[spec.name]
    module, _, name = spec.name.partition(":")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotFoundError(f"no calculator {spec.name!r}: {error}") from error
    if not isinstance(target, type):
        raise NotFoundError(f"{spec.name!r} is not a class")
    return Method(None, lambda params: target(**params), ("ase", *_distribution(module)))


def _distribution(module: str) -> tuple[str, ...]:
    """The installed distribution a module belongs to, if that can be told."""
    names = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    return tuple(name for name in dict.fromkeys(names) if name != "ase")
