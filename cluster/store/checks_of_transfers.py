"""Checks of files and folders on their way to the store and back, of unfinished uploads, and of credentials."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from cluster.errors import UserError
from cluster.store.checking import check, demand
from cluster.store.interface import Store
from cluster.store.keys import join

MEGABYTE = 1 << 20
PART = 8 * MEGABYTE  # of an upload of ours
LARGE = 20 * MEGABYTE + 1  # three parts, the last one short


@check("a model or a checkpoint would come back incomplete")
def a_folder_travels_both_ways(store: Store, folder: str) -> None:
    """A folder of files with unusual names comes back as it went, and the last file was written last."""
    files = {"inner/a b,c=1.txt": b"small", "empty": b"", "COMMIT.json": b"{}", "ümlaut+%20": b"x" * 1000}
    with tempfile.TemporaryDirectory() as scratch:
        out, back = Path(scratch, "out"), Path(scratch, "back")
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        keys = store.upload(out, folder, last="COMMIT.json")
        demand(keys[-1] == join(folder, "COMMIT.json"), "the last file was not written last")
        store.download(folder, back)
        found = {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    demand(found.keys() == files.keys(), f"{sorted(found)} came back, not {sorted(files)}")
    for name, content in files.items():
        demand(found[name] == content, f"{name!r} came back changed")


@check("weights and shards of more than a few megabytes would be damaged on the store")
def a_large_object_keeps_its_digest(store: Store, folder: str) -> None:
    """An object of 20 MiB, sent in parts, has the same sha256 when it comes back, and its parts are in order."""
    data = np.random.default_rng(5).bytes(LARGE)
    key = join(folder, "large")
    with tempfile.TemporaryDirectory() as scratch:
        out, back = Path(scratch, "out"), Path(scratch, "back")
        out.write_bytes(data)
        store.upload_file(out, key)
        store.download_file(key, back)
        expected, found = hashlib.sha256(data).hexdigest(), hashlib.sha256(back.read_bytes()).hexdigest()
    demand(found == expected, f"what came back has the sha256 {found[:12]}..., not {expected[:12]}...")
    seam = store.read_range(key, PART - 100, 200)
    demand(seam == data[PART - 100 : PART + 100], "the bytes where two parts meet are not those that were sent")


@check("parts of uploads that were killed would be paid for without being seen anywhere")
def an_unfinished_upload_is_found_and_removed(store: Store, folder: str) -> None:
    """An upload that was begun and never finished shows no object, is listed, and is gone after it was aborted."""
    key = join(folder, "unfinished")
    before = {upload.mark for upload in store.unfinished()}
    upload = store.begin(key, b"x" * 1000)
    try:
        demand(not store.exists(key), "an object exists whose upload was not finished")
        listed = {found.mark for found in store.unfinished()} - before
        demand(upload.mark in listed, "it does not list an upload that was begun and not finished")
    finally:
        store.abandon(upload)
    left = {found.mark for found in store.unfinished()}
    demand(upload.mark not in left, "an upload that was aborted is still listed")
    store.abandon(upload)


@check("anybody who knows the address could read and change everything")
def a_wrong_secret_is_refused(store: Store, folder: str) -> str | None:
    """Who signs with a wrong secret can read nothing."""
    stranger = store.stranger()
    if stranger is None:
        return "there are no secrets here: who may read the folder may read the store"
    key = join(folder, "object")
    store.write(key, b"mine")
    try:
        stranger.read(key)
    except UserError:
        return None
    return "it accepts any secret: let nobody reach its address who may not read and change everything"
