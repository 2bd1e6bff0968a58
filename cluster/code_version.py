"""Which code this is: written into every run record and model manifest."""

import functools
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VARIABLE = "EQUI_CODE_VERSION"  # on a cluster the sources travel without their history; the submitter tells


@functools.cache
def code_version() -> str:
    """`0.1.0+g1a2b3c4d5e6f` with `.dirty` for uncommitted changes; `0.1.0` where there is no git history."""
    told = os.environ.get(VARIABLE)
    if told:
        return told
    try:
        release = version("equimodels")
    except PackageNotFoundError:
        release = "0"
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # some other repository may lie around an installed copy
        return release
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return release
    dirty = ".dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{release}+g{commit}{dirty}"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
