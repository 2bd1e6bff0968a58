"""What the training loop reads from: samples by number.

A sample set is held in memory whole; the readers that stream shards will stand behind the same methods.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class SampleSet(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Any:
        """The batch that the objective expects, of these samples."""
        ...

    def identifiers(self, indices: Sequence[int]) -> list[str]:
        """The dataset's own names of these samples, for messages."""
        ...

    def facts(self) -> Iterator[Any]:
        """Samples as plain arrays, in the form that the model's `gather_facts` reads."""
        ...
