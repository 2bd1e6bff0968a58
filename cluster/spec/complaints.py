"""What a kind's own check is given and gives back: the surroundings of a spec, and complaints about parts of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.store import Store


@dataclass(frozen=True)
class Complaint:
    """Something wrong at `path` of a spec that its schema alone cannot see. The loader adds file, line and column.

    path: keys and list positions from the top, as written in YAML; () for the spec as a whole.
    hint: a line of its own below, for example the known settings of a component.
    """

    path: tuple[str | int, ...]
    message: str
    allowed: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a check may look at. Whatever is None is not known here, and nothing is complained about it."""

    store: "Store | None" = None
    capacity: Mapping[str, float] | None = None  # the most the cluster can ever have: {"CPU": n, "GPU": n}
    folder: Path = field(default_factory=Path)  # of the spec file; its relative paths start here
