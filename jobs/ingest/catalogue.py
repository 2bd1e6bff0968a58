"""The sources a dataset spec can name."""

from typing import Any

from cluster.errors import NotFoundError
from jobs.ingest.source import Source
from jobs.ingest.sources.ase_file import ASE
from jobs.ingest.sources.digits import DIGITS
from jobs.ingest.sources.extxyz import EXTXYZ
from jobs.ingest.sources.idx import IDX
from jobs.ingest.sources.image_folder import IMAGE_FOLDER
from jobs.ingest.sources.npz_images import NPZ_IMAGES
from jobs.ingest.sources.npz_points import NPZ_POINTS
from jobs.ingest.sources.npz_rmd17 import NPZ_RMD17
from jobs.ingest.sources.npz_signals import NPZ_SIGNALS
from jobs.ingest.sources.parquet import PARQUET
from jobs.ingest.sources.sdf import SDF
from jobs.spec.frozen import Component

SOURCES: dict[str, Source] = {
    "extxyz": EXTXYZ,
    "ase": ASE,
    "npz_rmd17": NPZ_RMD17,
    "sdf": SDF,
    "image_folder": IMAGE_FOLDER,
    "idx": IDX,
    "npz_images": NPZ_IMAGES,
    "npz_signals": NPZ_SIGNALS,
    "npz_points": NPZ_POINTS,
    "parquet": PARQUET,
    "digits": DIGITS,
}


def find_source(source: Component) -> tuple[Source, Any]:
    """The source called `source.name`, and its checked settings.

    Raises NotFoundError, pydantic.ValidationError for settings that do not fit (`jobs.checks.dataset` tells them).
    """
    if source.name not in SOURCES:
        raise NotFoundError(f"no source is called {source.name!r}", allowed=", ".join(SOURCES))
    found = SOURCES[source.name]
    return found, found.settings(**source.params)
