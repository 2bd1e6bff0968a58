"""Which shipped specs make up each demo. The packages above are named, not imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Plan:
    """The specs of one demo, and what the demo is about in a sentence."""

    about: str
    data: Path  # kind label or dataset
    sweep: Path
    endpoint: Path
    evaluate: Path


ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "ethanol": "an interatomic potential for ethanol from GFN2-xTB molecular dynamics",
        "digits": "64-dimensional embeddings of handwritten digits from a diffusion transformer",
    }
)


def shipped_plan(task: str) -> Plan:
    """The plan of a task of `ABOUT`, from the specs that the packages ship."""
    folder = _package("jobs") / "specs" / "demo" / task
    data = next(path for path in (folder / "label.yaml", folder / "dataset.yaml") if path.exists())
    return Plan(
        about=ABOUT[task],
        data=data,
        sweep=folder / "sweep.yaml",
        endpoint=_package("serve") / "specs" / f"{task}-endpoint.yaml",
        evaluate=folder / "evaluate.yaml",
    )


def _package(name: str) -> Path:
    """Where a package of the upper floor is installed; it is named, not imported."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"package {name} is not installed")
    return Path(found.submodule_search_locations[0])
