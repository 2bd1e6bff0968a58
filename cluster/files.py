"""Files for people and other programs: each one is there whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import UserError


def write_files(folder: Path, files: Mapping[str, bytes], *, dry_run: bool = False) -> list[Path]:
    """Write name -> content into a folder, which is made if absent. Returns the paths, in order.

    Everything is first written beside its place; only when all of it is on the disk are files renamed, so a full
    disk leaves what was there before. Raises UserError if the folder cannot be written.
    """
    paths = [folder / name for name in files]
    if dry_run:
        return paths
    waiting: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, files.values(), strict=True):
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
            waiting.append((Path(name), path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o644)  # mkstemp makes them private; there is nothing secret in them
        for temporary, path in waiting:
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
    return paths
