"""Which code ran: the package's version and, in a checkout, the commit."""

import os
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VARIABLE = "EQUI_CODE_VERSION"  # a job on a cluster has the sources without their history: the submitter tells
_ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def code_version() -> str:
    """Such as '0.1.0+git.1a2b3c4d5e6f' or '0.1.0+git.1a2b3c4d5e6f.dirty'; only the first part outside a checkout."""
    if told := os.environ.get(VARIABLE):
        return told
    try:
        package = version("equimodels")
    except PackageNotFoundError:  # Ray's working_dir ships the sources without their metadata
        package = "0"
    commit = _git("rev-parse", "--short=12", "HEAD") if (_ROOT / ".git").exists() else None
    if commit is None:
        return package
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{package}+git.{commit}" + (".dirty" if changed else "")


def _git(*arguments: str) -> str | None:
    """What git says about the checkout, or None where it is not installed or refuses."""
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
