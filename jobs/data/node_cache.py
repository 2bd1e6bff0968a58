"""The cache of a node, in a folder that all its workers know."""

import getpass
import tempfile
from pathlib import Path

from cluster.dataset.cache import BlockCache
from jobs.spec.train import Cache


def node_cache(settings: Cache | None) -> BlockCache | None:
    """The cache that the spec asks for; None where it asks for none."""
    if settings is None:
        return None
    folder = settings.folder or Path(tempfile.gettempdir()) / f"equi-cache-{getpass.getuser()}"
    return BlockCache(Path(folder).expanduser(), int(settings.gigabytes * 1e9))
