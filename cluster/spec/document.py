"""A spec as a user gave it: a file with the overrides of the command line on top. Every part knows where it is from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.spec import tree
from cluster.spec.problems import Place, Problem, dotted
from cluster.spec.secrecy import HIDDEN, is_secret, secret_values
from cluster.spec.wording import describe

LONGEST_SHOWN = 60  # characters of an override


@dataclass(frozen=True)
class Document:
    """The data of a spec before any model has seen it.

    problems: what is wrong with the text or the overrides themselves; the rest of the data is usable all the same.
    """

    data: dict[str, Any]
    source: str
    folder: Path
    places: dict[tree.Path, Place] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    def place(self, path: Sequence[str | int]) -> Place:
        """Where `path` is; where the nearest thing around it is if it is not there."""
        for length in range(len(path), 0, -1):
            found = self.places.get(tuple(path[:length]))
            if found is not None:
                return found
        return self.places[()]

    def secrets(self) -> frozenset[str]:
        """The secret values in the data: for blotting out, never for showing."""
        return frozenset(secret_values(self.data))


def read_document(path: Path | str, overrides: Sequence[str] = ()) -> Document:
    """Read a spec file and lay the overrides (`a.b=c`, c as YAML) over it.

    Raises UserError if the file cannot be read; what is wrong inside is in `problems`.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}", hint=_similar(file)) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_document(text, str(path), overrides, folder=file.absolute().parent)


def parse_document(text: str, source: str, overrides: Sequence[str] = (), *, folder: Path | None = None) -> Document:
    """The same for text that is in hand already. folder: where relative paths in the spec start."""
    parsed = tree.parse(text, source)
    if not isinstance(parsed.data, dict):
        if not parsed.problems:
            found = "the file is empty" if parsed.data is None else f"found {describe(parsed.data)}"
            allowed = "a mapping that begins with spec_version and kind"
            parsed.problems.append(Problem(parsed.places[()], "", found, allowed))
        parsed.data = {}
    for override in overrides:
        _lay_over(parsed, override)
    secrets = frozenset(secret_values(parsed.data))
    problems = tuple(problem.without(secrets) for problem in parsed.problems)
    return Document(parsed.data, source, folder or Path.cwd(), parsed.places, problems)


def _lay_over(parsed: tree.Tree, override: str) -> None:
    """Change the data in place. Missing mappings on the way are made: whether they may exist is the schema's to say."""
    path, equals, text = override.partition("=")
    here = Place(_shown(path, equals, text))
    if not equals or not all(path.split(".")):
        shown = path if equals else ""  # without '=' it may be anything, a secret too
        parsed.problems.append(Problem(here, shown, "is no override", "path.of.setting=value"))
        return
    value = tree.parse(text, here.source)
    if value.problems:
        parsed.problems += [Problem(here, path, problem.message, problem.allowed) for problem in value.problems]
        return
    keys = path.split(".")
    container: Any = parsed.data
    walked: tree.Path = ()
    while True:
        key = _next_key(container, keys)
        if key is None:
            parsed.problems.append(_dead_end(here, walked, container, keys))
            return
        del keys[: len(str(key).split("."))]
        walked = (*walked, key)
        if not keys:
            break
        if isinstance(container, dict) and container.get(key) is None:
            container[key] = {}
            parsed.places[walked] = here
        container = container[key]
    container[key] = value.data
    for known in [known for known in parsed.places if known[: len(walked)] == walked]:
        del parsed.places[known]
    parsed.places[walked] = here


def _next_key(container: Any, keys: Sequence[str]) -> str | int | None:
    """The key of `container` that the rest of the path begins with; existing keys may contain dots themselves."""
    if isinstance(container, list):
        inside = keys[0].isascii() and keys[0].isdigit() and int(keys[0]) < len(container)
        return int(keys[0]) if inside else None
    if not isinstance(container, dict):
        return None
    joined = (".".join(keys[:length]) for length in range(len(keys), 0, -1))
    return next((key for key in joined if key in container), keys[0])


def _dead_end(here: Place, walked: tree.Path, container: Any, keys: Sequence[str]) -> Problem:
    if isinstance(container, list):
        allowed = f"a position from 0 to {len(container) - 1}" if container else None
        return Problem(
            here, dotted((*walked, keys[0])), f"there is no such item; the list has {len(container)}", allowed
        )
    found = describe(container, secret=is_secret(*walked))
    return Problem(here, dotted(walked), f"has no setting {keys[0]!r}: it is {found}, not a mapping")


def _shown(path: str, equals: str, text: str) -> str:
    """The override as errors repeat it."""
    words = path.split(".")
    if is_secret(*words) or any(True for _ in secret_values(tree.parse(text, "").data)):
        text = HIDDEN
    elif not equals and is_secret(*path.replace(":", ".").replace(" ", ".").split(".")):
        path = HIDDEN  # the '=' is missing, so the secret is part of what should have been the path
    shown = f"{path}{equals}{text}"
    return f"--set {shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + '...'}"


def _similar(file: Path) -> str | None:
    """A file of nearly that name beside it."""
    if not file.parent.is_dir():
        return f"there is no folder {file.parent} either"
    names = [other.name for other in file.parent.iterdir() if other.suffix in (".yaml", ".yml")]
    matches = get_close_matches(file.name, names, n=1)
    return f"did you mean {file.parent / matches[0]}?" if matches else None
