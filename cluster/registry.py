"""The registry of models: immutable versions, and aliases that are moved (`cluster.aliases`).

A publication first claims a version number (claim.json, written only where there is none), then uploads
the files, then writes the manifest: the version is visible from then on. So two publications never write
into one folder, and one that is killed leaves a number without a model, which nobody is shown. The claim
names what is to be published: the same publication, tried again, takes its own claim up.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.aliases import Aliases, load_aliases, move_alias, rollback
from cluster.errors import NotFoundError, PreconditionFailedError, StoreError, UserError
from cluster.names import (
    as_version,
    checked_name,
    manifest_key,
    missing,
    published,
    split_reference,
    unknown,
    versions,
)
from cluster.store import Store, encode_json, read_json
from cluster.store.keys import checked_key

__all__ = [
    "Aliases",
    "ModelFile",
    "ModelManifest",
    "ModelRef",
    "fetch_model",
    "list_models",
    "load_aliases",
    "load_manifest",
    "move_alias",
    "publish_model",
    "resolve",
    "rollback",
]

NEEDED = ("weights.safetensors", "model.json")
_OURS = ("manifest.json", "claim.json")
_ATTEMPTS = 32


@dataclass(frozen=True)
class ModelRef:
    """One version of a model; as text 'name@3'."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Where the version is on the store."""
        return f"models/{self.name}/{self.version}"


class ModelFile(BaseModel):
    """One file of a model; `path` is relative to the version's folder."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str


class ModelManifest(BaseModel):
    """What a published model says about itself.

    dataset: {ref, digest} of what it was trained on. spec: the resolved training spec. more: whatever else
    the publisher said. publication: equal for the same files published by the same run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    created: datetime
    task: str | None = None
    run: str | None = None
    dataset: dict[str, Any] | None = None
    spec: dict[str, Any] | None = None
    code_version: str | None = None
    metrics: dict[str, Any] = {}
    more: dict[str, Any] = {}
    files: tuple[ModelFile, ...]
    publication: str

    @property
    def ref(self) -> ModelRef:
        """The version it describes."""
        return ModelRef(self.name, self.version)


def publish_model(store: Store, name: str, folder: Path, facts: Mapping[str, Any]) -> ModelRef:
    """Publish the files of `folder` (weights.safetensors and model.json at least) as the next version of `name`.

    facts: task, run, dataset, spec, code_version, metrics; others are kept under `more`. The same files of
    the same run are published once: a second call returns that version. Raises `UserError` where a file is missing.
    """
    checked_name("model", name)
    files = _files(folder)
    publication = _publication(files, facts)
    draft = _manifest(ModelRef(name, 1), files, publication, facts)
    for _ in range(_ATTEMPTS):
        if (same := _same(store, name, publication)) is not None:
            return same
        ref = _claim(store, name, publication)
        if ref is None or not _free(store, ref):
            continue
        if (same := _same(store, name, publication)) is not None:  # it ended between the look and the claim
            store.delete(f"{ref.folder}/claim.json")
            return same
        for file in files:
            store.upload_file(folder / file.path, f"{ref.folder}/{file.path}")
        manifest = draft.model_copy(update={"version": ref.version})
        data = encode_json(manifest.model_dump(mode="json"))
        try:
            store.write(manifest_key("model", name, ref.version), data, if_absent=True)
        except PreconditionFailedError:
            continue  # the same publication, tried twice at a time, was faster: it is found above
        store.delete(f"{ref.folder}/claim.json")
        return ref
    raise StoreError(f"{_ATTEMPTS} other publications of model {name!r} were faster; try again")


def resolve(store: Store, text: str) -> ModelRef:
    """The version that 'name@3', 'name@alias' or 'name' (the latest) means. Raises `NotFoundError`."""
    name, label = split_reference("model", text)
    version = as_version(label or "")
    if version is not None and store.exists(manifest_key("model", name, version)):
        return ModelRef(name, version)
    there = versions(store, "model", name)
    if not there:
        raise unknown(store, "model", name)
    if label is None:
        return ModelRef(name, there[-1])
    aliases = load_aliases(store, name).aliases
    if aliases.get(label) in there:
        return ModelRef(name, aliases[label])
    noun = "alias" if version is None else "version"
    known = [*aliases, *map(str, there)]
    raise missing(f"model {name!r} has no {noun} {label!r}", label, known, "its aliases and versions")


def load_manifest(store: Store, text: str) -> ModelManifest:
    """The manifest of the model that a reference means. Raises `NotFoundError`."""
    return _read_manifest(store, resolve(store, text))


def list_models(store: Store) -> list[ModelManifest]:
    """Every version of every model, ordered by name and version."""
    return [
        _read_manifest(store, ModelRef(name, version))
        for name in published(store, "model")
        for version in versions(store, "model", name)
    ]


def fetch_model(store: Store, text: str, folder: Path) -> ModelManifest:
    """Copy the files of a model into `folder`, its manifest.json beside them.

    Raises `NotFoundError`, and `StoreError` where a file is not the one that was published; it is then not left.
    """
    manifest = load_manifest(store, text)
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        path = folder / checked_key(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download_file(f"{manifest.ref.folder}/{file.path}", path)
        except NotFoundError as error:
            raise StoreError(f"model {manifest.ref} has lost {file.path}") from error
        if _sha256(path) != file.sha256:
            path.unlink()
            raise StoreError(f"{file.path} of model {manifest.ref} is not the file that was published")
    (folder / "manifest.json").write_bytes(encode_json(manifest.model_dump(mode="json")))
    return manifest


def _files(folder: Path) -> tuple[ModelFile, ...]:
    """The files to publish, the weights first: whoever sees model.json can expect them."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lacking = [name for name in NEEDED if name not in paths]
    if lacking:
        raise UserError(f"{folder} is no model: {', '.join(lacking)} is missing", allowed=", ".join(NEEDED))
    paths = [path for path in paths if path not in (*_OURS, *NEEDED)]
    return tuple(
        ModelFile(path=path, bytes=(folder / path).stat().st_size, sha256=_sha256(folder / path))
        for path in (*NEEDED, *paths)
    )


def _publication(files: tuple[ModelFile, ...], facts: Mapping[str, Any]) -> str:
    """What makes a repeated publication the same: the files and the run; without a run, everything said."""
    said = facts.get("run") or dict(facts)
    content = json.dumps([said, [file.model_dump() for file in files]], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _same(store: Store, name: str, publication: str) -> ModelRef | None:
    """The version that this publication has made already."""
    for version in reversed(versions(store, "model", name)):
        manifest = _read_manifest(store, ModelRef(name, version))
        if manifest.publication == publication:
            return manifest.ref
    return None


def _claim(store: Store, name: str, publication: str) -> ModelRef | None:
    """A version number that is ours alone, or None where another took it first."""
    taken = [as_version(label) for label in store.children(f"models/{name}")]
    numbers = sorted(number for number in taken if number is not None)
    for number in numbers:
        ref = ModelRef(name, number)
        try:
            if read_json(store, f"{ref.folder}/claim.json").get("publication") == publication:
                return ref
        except NotFoundError:
            continue
    ref = ModelRef(name, max(numbers, default=0) + 1)
    claim = encode_json({"publication": publication, "at": datetime.now(UTC).isoformat()})
    try:
        store.write(f"{ref.folder}/claim.json", claim, if_absent=True)
    except PreconditionFailedError:
        return None
    return ref


def _free(store: Store, ref: ModelRef) -> bool:
    """Whether the claimed version is not published yet; otherwise the claim is taken back.

    Whoever publishes takes their claim away at the end. One who has looked before and claims after that finds no
    claim, and would write over a published model.
    """
    if not store.exists(manifest_key("model", ref.name, ref.version)):
        return True
    store.delete(f"{ref.folder}/claim.json")
    return False


def _manifest(ref: ModelRef, files: tuple[ModelFile, ...], publication: str, facts: Mapping[str, Any]) -> ModelManifest:
    named = {"task", "run", "dataset", "spec", "code_version", "metrics"}
    try:
        return ModelManifest(
            name=ref.name,
            version=ref.version,
            created=datetime.now(UTC),
            files=files,
            publication=publication,
            more={key: value for key, value in facts.items() if key not in named},
            **{key: value for key, value in facts.items() if key in named},
        )
    except ValidationError as error:
        raise UserError(f"model {ref.name!r} cannot be described: {error}") from error


def _read_manifest(store: Store, ref: ModelRef) -> ModelManifest:
    key = manifest_key("model", ref.name, ref.version)
    try:
        return ModelManifest.model_validate(read_json(store, key))
    except ValidationError as error:
        raise StoreError(f"{key} is no manifest of a model: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
