"""Where a reader is in the stream of samples, and what that means something of only with the same dataset and order."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from cluster.errors import UserError

VERSION = 1  # of the order: another way of ordering samples is another version


@dataclass(frozen=True)
class Position:
    """`consumed` samples of epoch `epoch` have been given out, by all ranks together.

    digest, split, seed, window, shuffle: of what. Positions of readers with other world sizes and batches are the same.
    """

    epoch: int
    consumed: int
    digest: str
    split: str
    seed: int
    window: int
    shuffle: bool
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises UserError for anything else."""
        if state.get("version") != VERSION:
            raise UserError(
                f"the state of the reader is of version {state.get('version')!r}",
                allowed=f"version {VERSION}",
                hint="resume with the release that wrote it",
            )
        try:
            return cls(**state)
        except TypeError as error:
            raise UserError(f"this is no state of a reader: {error}") from None

    def moved(self, samples: int, epoch_samples: int) -> Self:
        """So many samples further on."""
        epochs, consumed = divmod(self.consumed + samples, epoch_samples)
        return replace(self, epoch=self.epoch + epochs, consumed=consumed)

    def require_same_stream(self, other: "Position") -> None:
        """Raise UserError, naming each difference, unless both are in the same stream of samples."""
        names = ("digest", "split", "seed", "window", "shuffle")
        differing = [name for name in names if getattr(self, name) != getattr(other, name)]
        if differing:
            pairs = [f"{name} {getattr(other, name)!r}, not {getattr(self, name)!r}" for name in differing]
            raise UserError(
                f"the state is that of another reader: {'; '.join(pairs)}",
                hint="a run goes on with the data and the order that it began with",
            )
