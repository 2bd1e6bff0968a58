"""The sources a dataset spec can name."""

from typing import Any

from pydantic import BaseModel

from cluster.errors import NotFoundError
from jobs.ingest.digits import DigitsSettings, read_digits
from jobs.ingest.extxyz import ExtxyzSettings, read_extxyz
from jobs.ingest.reading import Reader
from jobs.ingest.rmd17 import Rmd17Settings, read_rmd17
from jobs.spec.frozen import Component

READERS: dict[str, Reader] = {
    "digits": Reader("images", DigitsSettings, read_digits),
    "extxyz": Reader("structures", ExtxyzSettings, read_extxyz, ("file", "test_file")),
    "npz_rmd17": Reader("structures", Rmd17Settings, read_rmd17, ("file", "test_file")),
}


def find_reader(source: Component) -> Reader:
    """The reader called `source.name`. Raises NotFoundError."""
    if source.name not in READERS:
        raise NotFoundError(f"no source is called {source.name!r}", allowed=", ".join(READERS))
    return READERS[source.name]


def settings_of(source: Component) -> Any:
    """The checked settings of the source. Raises pydantic.ValidationError."""
    settings: type[BaseModel] = find_reader(source).settings
    return settings(**source.params)
