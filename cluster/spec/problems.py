"""What is wrong with a spec: where, what was found, what is allowed, and what may have been meant."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cluster.errors import UserError
from cluster.spec.secrecy import redact


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file (line and column from 1), or an override of the command line (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, told so that it can be put right."""

    place: Place
    path: str  # dotted, from the top of the spec; "" for the spec as a whole
    message: str
    allowed: str | None = None
    hint: str | None = None  # a line of its own

    def without(self, secrets: frozenset[str]) -> "Problem":
        """The same problem with every secret value blotted out."""
        return Problem(
            replace(self.place, source=redact(self.place.source, secrets)),
            redact(self.path, secrets),
            redact(self.message, secrets),
            redact(self.allowed, secrets) if self.allowed else None,
            redact(self.hint, secrets) if self.hint else None,
        )

    def __str__(self) -> str:
        lines = [f"{self.place}  {self.path}".rstrip(), f"  {self.message}"]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class SpecError(UserError):
    """Everything that is wrong with a spec, in the order of the file, overrides last."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=_in_order))
        number = len(self.problems)
        last = f"{number} problem{'' if number == 1 else 's'}. Nothing was submitted."
        super().__init__("\n".join([*map(str, self.problems), last]))


def dotted(path: Iterable[str | int]) -> str:
    """A path as it is shown and as `--set` takes it: `space.lr.choice.0`."""
    return ".".join(str(part) for part in path)


def _in_order(problem: Problem) -> tuple[bool, int, int, str, str]:
    place = problem.place
    return place.line == 0, place.line, place.column, problem.path, problem.message
