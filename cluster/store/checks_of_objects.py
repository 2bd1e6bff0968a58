"""Checks of single objects and of listings: what is written is there, what is deleted is gone, at once."""

from concurrent.futures import ThreadPoolExecutor

from cluster.store.checking import body, check, demand, missing
from cluster.store.interface import Store
from cluster.store.keys import join

MANY = 1200  # keys; a page of a listing of S3 has 1,000
FOLDERS = 12
WRITERS = 8


@check("a run could read its own record as it was a moment ago and go on from there")
def what_is_written_is_read(store: Store, folder: str) -> None:
    """An object reads back as it was written, at once, and again after it was overwritten."""
    for number in range(40):
        key = join(folder, f"object-{number % 5}")
        store.write(key, body(number))
        demand(store.read(key) == body(number), f"read number {number} returned an older object")
    empty = join(folder, "empty")
    store.write(empty, b"")
    demand(store.read(empty) == b"", "an empty object did not read back")
    demand(store.exists(empty), "an empty object is said not to exist")


@check("what was deleted would still be counted, paid for and shown")
def what_is_deleted_is_gone(store: Store, folder: str) -> None:
    """A deleted object is not read, listed or said to exist, and deleting it again is no error."""
    key, other = join(folder, "object"), join(folder, "other")
    store.write(key, b"x")
    store.write(other, b"y")
    store.delete(key)
    store.delete(key)
    demand(not store.exists(key), "a deleted object is said to exist")
    demand(store.list(folder) == [other], "a deleted object is still listed")
    demand(missing(lambda: store.read(key)), "a deleted object could be read")


@check("deleting a run or a dataset would leave some of it, or take what belongs to another")
def a_folder_is_deleted_whole_and_alone(store: Store, folder: str) -> None:
    """Deleting a folder removes all objects below it and none beside it."""
    inner = [join(folder, f"runs/1/part {number},a=b") for number in range(20)]
    outer = join(folder, "runs/10/part")
    for key in (*inner, outer):
        store.write(key, b"x")
    store.delete_folder(join(folder, "runs/1"))
    left = store.list(folder)
    demand(left == [outer], f"{len(left)} objects are left, not the one beside the folder")
    demand(not any(store.exists(key) for key in inner), "an object of a deleted folder still exists")


@check("`equi runs`, `equi models` and the steps of a checkpoint would be mixed up")
def a_prefix_is_a_folder(store: Store, folder: str) -> None:
    """Listing is sorted and complete, and 'runs/1' does not list 'runs/10'."""
    names = ["runs/1/a", "runs/1/deep/er/b", "runs/10/c", "runs/2"]
    keys = [join(folder, name) for name in names]
    for key in keys:
        store.write(key, b"x")
    demand(store.list(folder) == keys, f"listing returned {store.list(folder)}, not {keys}")
    demand(store.list(join(folder, "runs/1")) == keys[:2], "a folder listed more or less than its own objects")
    demand(store.children(join(folder, "runs")) == ["1", "10"], "the folders are not listed")
    demand(store.list(join(folder, "nowhere")) == [], "a folder that does not exist is not empty")
    demand(store.children(join(folder, "nowhere")) == [], "a folder that does not exist has folders")


@check("a dataset of many shards or a model of many files would come back with some of them missing")
def a_long_listing_is_complete_at_once(store: Store, folder: str) -> None:
    """Every one of 1,200 objects in 12 folders is listed as soon as it is written."""
    keys = sorted(join(folder, f"{number % FOLDERS:02d}/{number:05d}") for number in range(MANY))
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(lambda key: store.write(key, b""), keys):
            pass
    listed = store.list(folder)
    demand(listed == keys, f"{len(set(keys) - set(listed))} of {MANY} objects are not listed after they were written")
    folders = store.children(folder)
    demand(len(folders) == FOLDERS, f"{len(folders)} of {FOLDERS} folders are listed")
    one = [key for key in keys if key.startswith(join(folder, "07/"))]
    demand(store.list(join(folder, "07")) == one, "one of the folders is not listed completely")
