"""A folder of pictures, one sub-folder a class: the label is the number of the class in the order of the names."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import field_validator

from cluster.errors import UserError
from jobs.ingest.columns import table_of, tensors
from jobs.ingest.finding import found_folder
from jobs.ingest.source import (
    NUMBERS_A_PIECE,
    UNASSIGNED,
    Part,
    Piece,
    Settings,
    Source,
    Unread,
    of_kind,
    programs,
    row_runs,
)

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_FILES = 4096  # a piece has at most; some seconds of opening them
_MODES = {1: "L", 3: "RGB"}
_GREY, _COLOUR = {"1", "L"}, {"1", "L", "P", "RGB", "YCbCr", "CMYK"}  # what becomes L, RGB without losing anything


class ImageFolderSettings(Settings):
    """Which folder, and how its pictures are made alike."""

    folder: str
    test_folder: str | None = None  # every picture of it goes to the test split
    resize: tuple[int, int] | None = None  # rows, columns; without: every picture must have the size of the first
    channels: Literal[1, 3] | None = None  # without: those of the first, and no picture may lose any
    group_by_class: bool = False  # a class is a group: what is tested is classes never seen

    @field_validator("resize")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("not two sizes of at least 1")
        return value


def plan(settings: ImageFolderSettings, folder: Path) -> list[Piece]:
    """Runs of files. Raises NotFoundError, UserError for a folder without pictures."""
    roots = [(found_folder(folder, settings.folder), UNASSIGNED)]
    if settings.test_folder is not None:
        roots.append((found_folder(folder, settings.test_folder), "test"))
    listed = [(root, split, _pictures(root)) for root, split in roots]
    for root, _, names in listed:
        if not names:
            raise UserError(f"{root} holds no picture", allowed=f"files {', '.join(sorted(_SUFFIXES))}")
    classes = sorted({_class(name) for name in listed[0][2]} - {""})
    others = {_class(name) for _, _, names in listed for name in names} - set(classes or [""])
    if others:
        found = ", ".join(sorted(name or "none (a picture outside the sub-folders)" for name in others))
        raise UserError(f"classes beside those of {listed[0][0]}: {found}", allowed=", ".join(classes) or "none")
    shape = _shape(settings, listed[0][0] / listed[0][2][0])
    pieces = []
    for root, split, names in listed:
        for run in row_runs(len(names), max(int(np.prod(shape)), NUMBERS_A_PIECE // _FILES)):
            some = names[run.start : run.stop]
            detail = {"names": some, "classes": classes, "shape": list(shape)}
            pieces.append(
                Piece(str(root.absolute()), root.name, split or "train", split, run.start, run.stop, run.start,
                      len(run), _stamp(root, some), detail)
            )  # fmt: skip
    return pieces


def read(settings: ImageFolderSettings, piece: Piece) -> Part:
    """The pictures of the piece that can be read, and those that cannot."""
    names, classes = piece.detail["names"], piece.detail["classes"]
    channels, height, width = piece.detail["shape"]
    pixels = np.empty((len(names), channels, height, width), dtype=np.uint8)
    good: list[int] = []
    unread = []
    for place, name in enumerate(names):
        try:
            pixels[len(good)] = _pixels(Path(piece.file) / name, channels, (height, width), settings)
            good.append(place)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split()).replace(f"{piece.file}/", "")
            unread.append(Unread(f"{piece.shown}/{name}", reason))
    ids = pa.array([f"{piece.name}/{names[place]}" for place in good], pa.string())
    columns: dict[str, Any] = {"pixels": tensors(pixels[: len(good)])}
    if classes:
        columns["label"] = pa.array([classes.index(_class(names[place])) for place in good], pa.int64())
    groups = [_class(names[place]) for place in good] if settings.group_by_class else None
    return Part(table_of(ids, columns, piece.split, groups), lambda row: f"{piece.shown}/{names[good[row]]}", unread)


def _pixels(path: Path, channels: int, size: tuple[int, int], settings: ImageFolderSettings) -> NDArray[np.uint8]:
    """(C, H, W). Raises ValueError for a picture that is not like the others."""
    with Image.open(path) as image:
        mode = _MODES[channels]
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"pixels of mode {image.mode} have more than 8 bits")
        kept = image.mode in (_GREY if channels == 1 else _COLOUR) and "transparency" not in image.info
        if settings.channels is None and not kept:
            raise ValueError(f"mode {image.mode} would lose something as {mode}; say channels: {channels} to allow it")
        picture = image.convert(mode)
    if settings.resize is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    if picture.size != size[::-1]:
        raise ValueError(
            f"{picture.height} x {picture.width} pixels, not {size[0]} x {size[1]}; say resize to allow it"
        )
    array = np.asarray(picture)
    return array[None] if channels == 1 else np.moveaxis(array, -1, 0)


def _shape(settings: ImageFolderSettings, first: Path) -> tuple[int, int, int]:
    """(C, H, W) of every picture: as the settings say, else as the first is."""
    if settings.resize is not None and settings.channels is not None:
        return (settings.channels, *settings.resize)
    try:
        with Image.open(first) as image:
            channels = settings.channels or (1 if image.mode in _GREY else 3)
            return (channels, *(settings.resize or (image.height, image.width)))
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"the first picture, {first}, cannot be read: {error}",
            allowed="a picture, or both resize and channels, so that the first need not show them",
        ) from error


def _pictures(root: Path) -> list[str]:
    """Paths of the pictures below `root`, in the order of their names."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in files if Path(name).suffix.lower() in _SUFFIXES]
    return sorted(name for name in found if not any(part.startswith(".") for part in Path(name).parts))


def _class(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _stamp(root: Path, names: list[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        about = (root / name).stat()
        total.update(f"{name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return total.hexdigest()[:16]


def _about(settings: ImageFolderSettings, pieces: Sequence[Piece]) -> dict[str, Any]:
    return {**programs("pillow")(settings, pieces), "classes": pieces[0].detail["classes"]}


IMAGE_FOLDER = Source(
    kind=of_kind("images"),
    settings=ImageFolderSettings,
    plan=plan,
    read=read,
    grouped=lambda settings: settings.group_by_class,
    about=_about,
)
