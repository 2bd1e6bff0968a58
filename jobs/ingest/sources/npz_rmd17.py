"""The revised MD17 archives: one molecule each, PBE/def2-SVP (Christensen and von Lilienfeld 2020), in kcal/mol."""

from pathlib import Path

import numpy as np

from cluster.errors import UserError
from jobs.ingest.columns import lists, numbered, table_of
from jobs.ingest.finding import Names, given_files
from jobs.ingest.npz import require, rows
from jobs.ingest.source import Part, Piece, Settings, Source, of_kind, row_runs
from jobs.spec.units import Units

_ARRAYS = ("nuclear_charges", "coords", "energies", "forces")


class Rmd17Settings(Settings):
    """The training archive, and the test archive beside it."""

    file: Names  # an archive, a pattern, or a list of them
    test_file: Names | None = None  # every frame of it goes to the test split


def plan(settings: Rmd17Settings, folder: Path) -> list[Piece]:
    """Runs of frames. Raises NotFoundError, UserError for a file of another format."""
    pieces = []
    for file in given_files(folder, settings.file, settings.test_file):
        numbers, coords, energies, forces = require(file.path, *_ARRAYS)
        shape = coords.shape
        whole = numbers.shape == shape[1:2] and energies.shape[:1] == shape[:1] and forces.shape == shape
        if len(shape) != 3 or shape[2:] != (3,) or not whole or np.prod(energies.shape) != shape[0]:
            raise UserError(
                f"{file.path}: coords {shape}, forces {forces.shape}, energies {energies.shape}, "
                f"nuclear_charges {numbers.shape} do not fit each other",
                allowed="(frames, atoms, 3) twice, (frames,), (atoms,)",
            )
        for run in row_runs(shape[0], shape[1] * 6 * 8):
            pieces.append(file.piece(run.start, run.stop, first=run.start, rows=len(run)))
    return pieces


def read(settings: Rmd17Settings, piece: Piece) -> Part:
    """The frames of the piece."""
    path = Path(piece.file)
    numbers = rows(path, "nuclear_charges", 0, 1 << 30)
    coords, energies, forces = (rows(path, name, piece.begin, piece.end) for name in _ARRAYS[1:])
    frames, atoms = coords.shape[:2]
    # One trajectory, but frames far apart and in random order (Christensen and von Lilienfeld): each its own group.
    columns = {
        "numbers": lists(np.tile(np.clip(numbers, 0, 255).astype(np.uint8), frames), np.full(frames, atoms)),
        "positions": lists(coords.astype(np.float64), np.full(frames, 3 * atoms)),
        "energy": energies.astype(np.float64).reshape(-1),
        "forces": lists(forces.astype(np.float64), np.full(frames, 3 * atoms)),
    }
    ids = numbered(piece.name, np.arange(piece.begin, piece.end))
    return Part(table_of(ids, columns, piece.split), lambda row: f"{piece.shown}, row {piece.begin + row}")


NPZ_RMD17 = Source(
    kind=of_kind("structures"),
    settings=Rmd17Settings,
    plan=plan,
    read=read,
    units=Units(length="angstrom", energy="kcal/mol"),
    about=lambda settings, pieces: {"method": {"name": "PBE/def2-SVP", "source": "rMD17"}},
)
