"""What the HTTP side needs of a model: check an item, say what it costs, answer a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

Raw = TypeVar("Raw", contravariant=True)
Item = TypeVar("Item")
Answer = TypeVar("Answer", covariant=True)


class Predictor(Protocol[Raw, Item, Answer]):
    """Answers one task. `prepare` runs in any thread, `predict` in one thread only and never twice at a
    time."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON for GET /v1/model: what is accepted, and where the model comes from."""
        ...

    def prepare(self, raw: Raw) -> Item:
        """Check one item of a request and bring it into the form `predict` takes.

        Raises RejectedError (422, or 413 where it is too large), with `where` relative to the item.
        """
        ...

    def cost(self, item: Item) -> int:
        """What the item takes of the batch budget. Never raises."""
        ...

    def predict(self, items: list[Item]) -> Sequence[Answer | Exception]:
        """One answer per item, in order; an exception in place of the answer fails that item only."""
        ...

    def probe(self) -> Item:
        """A small item that a healthy model can always answer."""
        ...
