"""The revised MD17 archives: one molecule each, PBE/def2-SVP (Christensen and von Lilienfeld 2020).

The archives hold kcal/mol; a dataset here holds eV.
"""

import zipfile
from pathlib import Path

import numpy as np
from ase import units
from pydantic import BaseModel, ConfigDict

from cluster.errors import UserError
from jobs.ingest.reading import UNASSIGNED, Reading, as_test, existing
from jobs.ingest.rows import StructureRow

KCAL_PER_MOL = units.kcal / units.mol  # 0.0433641 eV
_ARRAYS = ("nuclear_charges", "coords", "energies", "forces")


class Rmd17Settings(BaseModel):
    """The training archive, and the test archive beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    test_file: str | None = None  # every frame of it goes to the test split


def read_rmd17(settings: Rmd17Settings, folder: Path) -> Reading:
    """Every frame of the archives. Raises UserError for a file of another format."""
    rows = _frames(existing(folder, settings.file), "train")
    if settings.test_file is not None:
        rows += as_test(_frames(existing(folder, settings.test_file), "test"))
    files = [name for name in (settings.file, settings.test_file) if name is not None]
    return Reading(
        structures=rows,
        provenance={
            "origin": [Path(name).name for name in files],
            "method": {"name": "PBE/def2-SVP", "source": "rMD17"},
        },
    )


def _frames(path: Path, prefix: str) -> list[StructureRow]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive.files]
            if missing:
                raise UserError(f"{path} has no array {', '.join(missing)}", allowed=", ".join(_ARRAYS))
            numbers, positions, energies, forces = (archive[name] for name in _ARRAYS)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not an npz archive: {error}") from error
    if positions.shape != forces.shape or positions.shape[:2] != (len(energies), len(numbers)):
        raise UserError(
            f"{path}: coords {positions.shape}, forces {forces.shape}, {len(energies)} energies, "
            f"{len(numbers)} atoms do not fit each other"
        )
    return [
        # One trajectory, but frames far apart and in random order (Christensen and von Lilienfeld): each its own group.
        StructureRow(
            id=f"{prefix}-{i:06d}",
            numbers=numbers,
            positions=positions[i].astype(np.float64),
            energy=float(energies[i]) * KCAL_PER_MOL,
            forces=forces[i].astype(np.float64) * KCAL_PER_MOL,
            group=f"{prefix}-{i:06d}",
            split=UNASSIGNED,
        )
        for i in range(len(energies))
    ]
