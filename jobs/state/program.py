"""`equi export --program`: beside a model folder, its potential as one file that runs without the model's code."""

from enum import StrEnum
from pathlib import Path

from cluster.errors import UserError

FILE = "program.pt2"


class Form(StrEnum):
    """What the file holds: operations of torch, or machine code for processors like this one."""

    exported = "exported"
    compiled = "compiled"


def require_form(form: Form | None) -> None:
    """Raise UserError where such a file cannot be written on this machine."""
    if form is Form.compiled:
        from equimodels.errors import SettingError
        from equimodels.integrations.compiled import require_compiler

        try:
            require_compiler()
        except SettingError as error:
            raise UserError(f"--program compiled: {error}") from error


def write_program(folder: Path, form: Form) -> Path:
    """Write the model of a folder as a program into the folder; returns the file.

    Raises UserError for a model that is no potential, and for one that is told charge and spin.
    """
    from equimodels.checkpoint import load_model
    from equimodels.errors import SettingError
    from equimodels.integrations.compiled import save_compiled
    from equimodels.integrations.exported import save_exported
    from equimodels.models.potential import Potential

    model = load_model(folder)
    there = f"{folder} has the model, and no program"
    if not isinstance(model, Potential):
        raise UserError(f"a {type(model).__name__} is no potential: {there}")
    try:
        (save_exported if form is Form.exported else save_compiled)(model, folder / FILE)
    except SettingError as error:
        raise UserError(f"{error}: {there}") from error
    return folder / FILE
