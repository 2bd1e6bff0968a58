"""File names in a spec: relative to the spec, absolute in the resolved spec that a run stores."""

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo


def below_spec(value: Any, info: ValidationInfo) -> Any:
    """The file name made absolute where the spec's folder is known (validation context `folder`), else as it is.

    What is not text is left to whoever checks its type.
    """
    if not isinstance(value, str) or not info.context or "folder" not in info.context:
        return value
    return str((Path(info.context["folder"]) / Path(value).expanduser()).absolute())
