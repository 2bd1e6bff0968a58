"""Any stretch of a committed checkpoint, from the files of whichever ranks wrote it, checked as it is read."""

import hashlib
import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from cluster.errors import NotFoundError, OutOfRangeError
from cluster.store import Store
from cluster.store.keys import join
from jobs.checkpoints.commit import FORMAT_VERSION, Commit, committed_steps, read_commit
from jobs.checkpoints.errors import CheckpointVersionError, DamagedCheckpointError
from jobs.checkpoints.index import BLOCK, DTYPES, FileIndex, Place
from jobs.checkpoints.layout import home
from jobs.ports import Saved

_THREADS = 8
_CACHED = 64  # blocks, 128 MiB: small parameters lie many in a block, and the slots of one are far apart
_PIECE = 8 << 20  # bytes that are hashed at a time


def open_checkpoint(store: Store, run_id: str, step: int | None = None) -> Saved:
    """A committed checkpoint of a run, the newest unless `step` says which; for those who are no part of the run.

    Raises NotFoundError where there is none.
    """
    steps = committed_steps(store, home(run_id))
    if not steps:
        raise NotFoundError(f"run {run_id} has no committed checkpoint")
    if step is not None and step not in steps:
        raise NotFoundError(f"run {run_id} has no committed checkpoint of step {step}", allowed=_listed(steps))
    commit = read_commit(store, home(run_id), steps[-1] if step is None else step)
    return saved(store, home(run_id), commit, read_indices(store, home(run_id), commit))


def saved(store: Store, at: str, commit: Commit, indices: Iterable[Sequence[FileIndex]]) -> Saved:
    """The checkpoint as the loop sees it."""
    find = Stretches(store, at, [file for files in indices for file in files]).find
    return Saved(commit.step, commit.notes, commit.shapes, commit.slots, find, commit.model)


def read_indices(store: Store, at: str, commit: Commit) -> list[list[FileIndex]]:
    """The index of each rank. Raises DamagedCheckpointError where one is missing or not what was committed, and
    CheckpointVersionError where it is of another format.
    """

    def read(name: str) -> list[FileIndex]:
        data = _present(lambda: store.read(join(at, name)), join(at, name))
        if hashlib.sha256(data).hexdigest() != commit.files[name].sha256:
            raise DamagedCheckpointError(f"{join(at, name)} is damaged: its sha256 is not the one that was committed")
        index = json.loads(data)
        if (version := index["format_version"]) != FORMAT_VERSION:
            what = f"{join(at, name)} is of format version {version!r}, unlike its commit"
            raise CheckpointVersionError(what, allowed=f"format version {FORMAT_VERSION}")
        return [FileIndex.from_json(file) for file in index["files"]]

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(read, commit.indices))


def check_file(store: Store, at: str, name: str, commit: Commit) -> None:
    """Read a file to its end. Raises DamagedCheckpointError where it is missing or not what was committed."""
    key, wanted = join(at, name), commit.files[name]
    digest = hashlib.sha256()
    for start in range(0, wanted.bytes, _PIECE):
        length = min(_PIECE, wanted.bytes - start)
        digest.update(_present(partial(store.read_range, key, start, length), key))
    if digest.hexdigest() != wanted.sha256:
        raise DamagedCheckpointError(f"{key} is damaged: its sha256 is not the one that was committed")


class Stretches:
    """Finds numbers in files by their indices; reads, and checks, no more than the blocks that hold them."""

    def __init__(self, store: Store, at: str, files: Sequence[FileIndex]) -> None:
        self._store, self._at = store, at
        self._pieces: dict[tuple[str, str], list[tuple[Place, FileIndex]]] = defaultdict(list)
        for file in files:
            for place in file.pieces:
                self._pieces[place.slot, place.parameter].append((place, file))
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def find(self, slot: str, parameter: str, start: int, stop: int) -> Tensor:
        """Numbers [start, stop) of the flattened parameter, (stop - start,), on the CPU.

        Raises KeyError where the checkpoint has no such slot of it, and DamagedCheckpointError.
        """
        if start == stop:  # a parameter without numbers has no piece where a strategy cuts a flat buffer
            return torch.empty(0)
        if (slot, parameter) not in self._pieces:
            raise KeyError(f"the checkpoint has no {slot} of {parameter}")
        pieces = self._pieces[slot, parameter]
        result = torch.empty(stop - start, dtype=DTYPES[pieces[0][0].dtype])
        found = 0
        for place, file in pieces:
            first, last = max(start, place.start), min(stop, place.start + place.count)
            if first < last:
                offset = place.offset + (first - place.start) * place.width
                data = bytearray(self._bytes(file, offset, (last - first) * place.width))
                result[first - start : last - start] = torch.frombuffer(data, dtype=result.dtype)
                found += last - first
        if found != stop - start:
            raise KeyError(f"the checkpoint has no numbers {start} to {stop} of {slot} of {parameter}")
        return result

    def _bytes(self, file: FileIndex, offset: int, length: int) -> bytes:
        first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
        data = b"".join(self._checked(file, first, last))
        return data[offset - first * BLOCK :][:length]

    def _checked(self, file: FileIndex, first: int, last: int) -> list[bytes]:
        """Blocks first to last (exclusive): what is not at hand is read in one go."""
        with self._lock:
            known = {
                number: self._blocks[file.name, number]
                for number in range(first, last)
                if (file.name, number) in self._blocks
            }
            missing = [number for number in range(first, last) if number not in known]
            if missing:
                begin, end = missing[0], missing[-1] + 1
                known |= self._read(file, begin, end)
            for number in range(first, last)[-_CACHED:]:
                self._blocks[file.name, number] = known[number]
                self._blocks.move_to_end((file.name, number))
            while len(self._blocks) > _CACHED:
                self._blocks.popitem(last=False)
            return [known[number] for number in range(first, last)]

    def _read(self, file: FileIndex, begin: int, end: int) -> dict[int, bytes]:
        key, start = join(self._at, file.name), begin * BLOCK
        length = min(end * BLOCK, file.bytes) - start
        data = _present(lambda: self._store.read_range(key, start, length), key)
        blocks = {number: data[(number - begin) * BLOCK :][:BLOCK] for number in range(begin, end)}
        for number, block in blocks.items():
            if zlib.crc32(block) != file.crc32[number]:
                place = f"between bytes {number * BLOCK} and {number * BLOCK + len(block)}"
                raise DamagedCheckpointError(f"{key} is damaged {place}: its crc32 is not the one that was committed")
        return blocks


def _present(read: Callable[[], bytes], key: str) -> bytes:
    """What is read; DamagedCheckpointError where the object is missing or too short."""
    try:
        return read()
    except NotFoundError:
        raise DamagedCheckpointError(f"{key} is missing, and a committed checkpoint needs it") from None
    except OutOfRangeError as error:
        raise DamagedCheckpointError(f"{key} is cut short: {error.message}") from None


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps))
