"""What the training loop reads from: batches one after another, and where in the data it is."""

from collections.abc import Generator, Mapping
from typing import Any, Protocol

from jobs.data.order import Integers


class Batches(Protocol):
    """The batches of one rank; `jobs.data.reader.Reader` is one."""

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        ...

    @property
    def consumed(self) -> int:
        """Samples that all ranks have been given since the first epoch began."""
        ...

    def __iter__(self) -> Generator[Any, None, None]:
        """Batches that the objective expects, from where `state` is. Closing it ends what reads ahead."""
        ...

    @property
    def rows(self) -> Integers:
        """Which samples this rank's last batch held, as numbers."""
        ...

    def identifiers(self, rows: Integers | None = None) -> list[str]:
        """The dataset's own names of samples, of the last batch's by default, for messages. May read the store."""
        ...

    def state(self) -> dict[str, Any]:
        """Where all ranks are after the last batch, as JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        ...
