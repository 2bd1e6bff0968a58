"""A model as a folder: `weights.safetensors` and `model.json`. Nothing in it is ever unpickled or executed."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from equimodels.assemble import ModelDescription, assemble

FORMAT_VERSION = 1
WEIGHTS, MANIFEST = "weights.safetensors", "model.json"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}


class CheckpointError(ValueError):
    """A model folder is incomplete, damaged, or from a version of the format this code does not know."""


def save_model(
    directory: Path, model: nn.Module, description: ModelDescription, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the folder and return its manifest: format_version, description, dtype, sha256 of the weights, and `extra`.

    The manifest is written last, so a folder that has one is complete. `extra`: JSON, without the manifest's keys.
    Raises ValueError for parameters of several dtypes.
    """
    state = {name: value.detach().to("cpu").contiguous() for name, value in model.state_dict().items()}
    dtypes = {str(value.dtype).removeprefix("torch.") for value in state.values() if value.is_floating_point()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise ValueError(f"parameters of dtypes {sorted(dtypes)}; allowed: one of {', '.join(DTYPES)}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    # A copy each: safetensors refuses tensors that share memory.
    save_file({name: value.clone() for name, value in state.items()}, directory / f"{WEIGHTS}.part")
    os.replace(directory / f"{WEIGHTS}.part", directory / WEIGHTS)
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "description": description.to_json(),
        "dtype": dtypes.pop(),
        "sha256": _sha256(directory / WEIGHTS),
    }
    clash = manifest.keys() & (extra or {}).keys()
    if clash:
        raise ValueError(f"extra has {', '.join(sorted(clash))}; these keys belong to the manifest")
    manifest |= extra or {}
    part = directory / f"{MANIFEST}.part"
    part.write_text(json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n")
    os.replace(part, directory / MANIFEST)
    return manifest


def load_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a model folder. Raises CheckpointError when it is missing, not JSON, or of another format."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} has no {MANIFEST}: not a model folder, or one not written to the end"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{directory / MANIFEST} is not JSON: {error}") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{directory / MANIFEST} has format_version {version!r}; allowed: {FORMAT_VERSION}")
    return dict(manifest)


def load_model(directory: Path) -> nn.Module:
    """The model of a folder on the CPU, in the dtype it was saved in, in eval mode.

    Raises CheckpointError when a file is missing, the weights do not have the recorded sha256 or do not fit the model.
    """
    manifest = load_manifest(directory)
    try:
        found = _sha256(directory / WEIGHTS)
        if found != manifest["sha256"]:
            raise CheckpointError(f"{directory / WEIGHTS} has sha256 {found}; the manifest says {manifest['sha256']}")
        # The fresh weights are drawn and thrown away: the caller's random stream must not notice.
        with torch.random.fork_rng(devices=[]):
            model = assemble(ModelDescription.from_json(manifest["description"]))
        model = model.to(DTYPES[manifest["dtype"]])
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (FileNotFoundError, KeyError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{directory} cannot be loaded: {error}") from error
    return model.eval()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
