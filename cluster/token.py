"""Token files: one shared secret of a Ray cluster, readable by its owner only.

The token is never printed, never put into a runtime environment, a run record or an exception.
"""

import os
import secrets
import stat
from pathlib import Path

from cluster.errors import ClusterError


def ensure_token(path: Path) -> Path:
    """The token file at `path`, made with a new random token (256 bit) and mode 0600 if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        read_token(path)
        return path
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def read_token(path: Path) -> str:
    """The token in a file. Raises ClusterError if it is missing, empty or readable by others."""
    path = path.expanduser()
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(
            f"the token file {path} cannot be read: {error.strerror}",
            hint="--token-file names a file that holds the cluster's token.",
        ) from error
    except UnicodeDecodeError as error:
        raise ClusterError(f"the token file {path} is not text", allowed="one line: the token") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ClusterError(
            f"the token file {path} is open to other users (mode {stat.S_IMODE(mode):04o})",
            allowed="0600",
            hint=f"chmod 600 {path}",
        )
    if not token or any(character.isspace() for character in token):
        raise ClusterError(f"the token file {path} holds no token", allowed="one line: the token")
    return token
