"""Names and versions: what may be called what, and how 'name@3' is read."""

import re
from collections.abc import Iterable

from cluster.errors import NotFoundError, UserError
from cluster.spec.wording import did_you_mean
from cluster.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def checked_name(noun: str, name: str) -> str:
    """The name, unchanged. Raises `UserError` where it could not be a folder, part of a URL and of a reference."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no {noun} name",
            allowed="letters, digits, '.', '_' and '-', 1 to 100 of them, the first a letter or a digit",
        )
    return name


def split_reference(noun: str, text: str) -> tuple[str, str | None]:
    """The two sides of 'name@label', the second None where there is no '@'; 'models/name@label' is understood too."""
    name, at, label = text.removeprefix(f"{noun}s/").partition("@")
    checked_name(noun, name)
    if not at:
        return name, None
    if not _NAME.fullmatch(label):
        raise UserError(f"{text!r} names no version of a {noun}", allowed=f"{name} or {name}@3")
    return name, label


def as_version(label: str) -> int | None:
    """The version number that a label is, or None where it is a word."""
    return int(label) if re.fullmatch(r"[1-9][0-9]{0,8}", label) else None


def versions(store: Store, noun: str, name: str) -> list[int]:
    """The published versions of a dataset or model, ascending: the folders that have a manifest."""
    labels = [as_version(label) for label in store.children(f"{noun}s/{name}")]
    numbers = sorted(number for number in labels if number is not None)
    return [number for number in numbers if store.exists(manifest_key(noun, name, number))]


def manifest_key(noun: str, name: str, version: int) -> str:
    """Where the manifest of a version is; its presence makes the version visible."""
    return f"{noun}s/{name}/{version}/manifest.json"


def published(store: Store, noun: str) -> list[str]:
    """Names of the datasets or models that have at least one version, sorted."""
    return [name for name in store.children(f"{noun}s") if versions(store, noun, name)]


def unknown(store: Store, noun: str, name: str) -> NotFoundError:
    """The error for a dataset or model that has no version: names the nearest one, or all."""
    return missing(f"there is no {noun} {name!r}", name, published(store, noun), f"{noun}s in {store.uri}")


def missing(message: str, word: str, known: Iterable[str], what: str) -> NotFoundError:
    """The error for a word that is not among the known ones."""
    names = list(known)
    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    return NotFoundError(f"{message}{did_you_mean(word, names)}", hint=f"{what}: {shown or 'none'}")
