"""What a step is: frozen settings, a check against the dataset, and a function of the rows of one row group."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as having
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from cluster.store import Store

if TYPE_CHECKING:
    from cluster.dataset.schema import Kind


class StepSettings(BaseModel):
    """The settings of a step."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Rows:
    """What a step is given: columns of a dataset of this kind, as they are read."""

    table: pa.Table
    kind: "Kind"


@dataclass(frozen=True)
class Outcome:
    """What a step gives: the rows it keeps, and how many it drops for which reason."""

    table: pa.Table
    dropped: Mapping[str, int] = having(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """Where a step is: the store that models come from, and the device ("cpu", "cuda") they are run on."""

    store: Store
    device: str = "cpu"


Apply = Callable[[Rows], Outcome]


@dataclass(frozen=True)
class Step:
    """A step that a prepare spec can name.

    lacking: of settings, kind and names of columns, why the step cannot be done; None where it can. make: in a worker,
    once for all its row groups. pin: settings whose meaning may change, such as an alias, as they are when the run
    begins; JSON. slow: `make` takes so long that workers are kept.
    """

    settings: type[StepSettings]
    make: Callable[[Any, Surroundings], Apply]
    lacking: "Callable[[Any, Kind, frozenset[str]], str | None]"
    pin: Callable[[Any, Store], dict[str, Any]] = lambda settings, store: {}
    slow: bool = False


def placed(table: pa.Table, name: str, values: pa.Array, metadata: Mapping[str, str]) -> pa.Table:
    """The table with this column, in place of one of the same name or at the end."""
    field = pa.field(name, values.type, nullable=False, metadata=dict(metadata))
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), field, values)
    return table.append_column(field, values)
