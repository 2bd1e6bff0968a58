"""Which shipped specs make up each demo. The packages above are named, not imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Plan:
    """The specs of one demo, as `package/path`, and what the demo is about in a sentence."""

    about: str
    data: str  # kind label or dataset
    sweep: str
    endpoint: str
    evaluate: str


PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        "ethanol": Plan(
            about="an interatomic potential for ethanol from GFN2-xTB molecular dynamics",
            data="jobs/specs/demo/ethanol/label.yaml",
            sweep="jobs/specs/demo/ethanol/sweep.yaml",
            endpoint="serve/specs/ethanol-endpoint.yaml",
            evaluate="jobs/specs/demo/ethanol/evaluate.yaml",
        ),
        "digits": Plan(
            about="64-dimensional embeddings of handwritten digits from a diffusion transformer",
            data="jobs/specs/demo/digits/dataset.yaml",
            sweep="jobs/specs/demo/digits/sweep.yaml",
            endpoint="serve/specs/digits-endpoint.yaml",
            evaluate="jobs/specs/demo/digits/evaluate.yaml",
        ),
    }
)


def shipped(name: str) -> Path:
    """The file of a shipped spec, `package/path`, wherever the package is installed."""
    package, _, inside = name.partition("/")
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"package {package} is not installed")
    return Path(found.submodule_search_locations[0]) / inside
