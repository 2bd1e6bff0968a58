"""How others read structures: each writes the same rows in its own format and gives the same batches.

A peer is a function of the structures and a folder that writes its files there, and returns what begins an epoch of
batches. A batch of B structures with N atoms is numbers (N,) int64, positions (N, 3), forces (N, 3) of torch's default
type, energy (B,) float64 and owner (N,) int64, the structure of each atom. A peer reads in this process, with the
threads that it has, but for `worker`: where nothing is computed meanwhile, a worker process only adds the passing of
tensors (MosaicML Streaming and webdataset were slower with one). A peer that is not installed raises ImportError.
"""

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import torch
from synthetic import Sample, Structures
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BATCH = 64


class Batch(NamedTuple):
    """See the top of the module."""

    numbers: Tensor
    positions: Tensor
    forces: Tensor
    energy: Tensor
    owner: Tensor


Epoch = Callable[[], Iterable[Batch]]


def batch_of(numbers: Any, positions: Any, forces: Any, energy: Any, sizes: Any) -> Batch:
    """The arrays of a batch as its tensors."""
    dtype = torch.get_default_dtype()
    return Batch(
        torch.from_numpy(numbers.astype(np.int64)),
        torch.from_numpy(positions).to(dtype),
        torch.from_numpy(forces).to(dtype),
        torch.from_numpy(energy),
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """The samples as one batch."""
    numbers, positions, energy, forces = zip(*samples, strict=True)
    sizes = [len(found) for found in numbers]
    return batch_of(np.concatenate(numbers), np.concatenate(positions), np.concatenate(forces), np.array(energy), sizes)


def batched(samples: Iterable[Sample]) -> Iterator[Batch]:
    """Batches of the samples in this process."""
    held: list[Sample] = []
    for sample in samples:
        held.append(sample)
        if len(held) == BATCH:
            yield collate(held)
            held = []
    if held:
        yield collate(held)


def scan(files: Sequence[Path], *, whole: bool) -> Epoch:
    """pyarrow.dataset over the dataset's own files, unshuffled, with its threads.

    whole: let it give batches as large as it likes and cut those, instead of asking it for batches of 64.
    """
    dataset = pa.dataset.dataset([str(path) for path in files])
    columns = ["numbers", "positions", "energy", "forces"]

    def epoch() -> Iterator[Batch]:
        for found in dataset.to_batches(columns=columns, **({} if whole else {"batch_size": BATCH})):
            for start in range(0, found.num_rows, BATCH):
                rows = found.slice(start, BATCH)
                yield batch_of(
                    rows["numbers"].flatten().to_numpy(),
                    rows["positions"].flatten().to_numpy().reshape(-1, 3),
                    rows["forces"].flatten().to_numpy().reshape(-1, 3),
                    rows["energy"].to_numpy(),
                    np.diff(rows["numbers"].offsets.to_numpy()),
                )

    return epoch


class InMemory(Dataset[Sample]):
    """Rows of arrays that are in memory: nothing is read at all."""

    def __init__(self, rows: Structures) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sample:
        return self.rows[row]


def loader(rows: Any, *, workers: int = 1, gather: Callable[[Any], Any] = collate, **more: Any) -> Epoch:
    """torch's DataLoader over map-style or iterable rows; its worker stays alive between epochs."""
    found = DataLoader(
        rows, batch_size=BATCH, collate_fn=gather, num_workers=workers, persistent_workers=workers > 0, **more
    )
    return lambda: found


def worker(rows: Structures, folder: Path) -> Epoch:
    """A DataLoader with one worker process, shuffled, over arrays in memory."""
    return loader(InMemory(rows), shuffle=True)


def mosaicml(rows: Structures, folder: Path) -> Epoch:
    """MosaicML Streaming, shuffled, from a local folder without compression, in this process."""
    streaming = _streaming()
    atoms = {"positions": "ndarray:float64", "forces": "ndarray:float64", "numbers": "ndarray:uint8"}
    if not folder.exists():
        with streaming.MDSWriter(out=str(folder), columns={**atoms, "energy": "float64"}) as writer:
            for sample in rows:
                writer.write({**sample._asdict(), "energy": np.float64(sample.energy)})

    def gather(samples: Sequence[dict[str, Any]]) -> Batch:
        return collate([Sample(**sample) for sample in samples])

    streaming.base.util.clean_stale_shared_memory()
    found = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return loader(found, workers=0, gather=gather)


def _streaming() -> Any:
    """The package `streaming`, without two that it imports for images and texts only.

    They bring their own build of torch, and none of what they have is called when a local dataset is read.
    """
    for name, attribute in (
        ("torchvision.datasets", "VisionDataset"),
        ("torchvision.transforms.functional", "to_tensor"),
        ("transformers.feature_extraction_utils", "BatchFeature"),
        ("transformers.tokenization_utils_base", "BatchEncoding"),
        ("transformers.models.auto.tokenization_auto", "AutoTokenizer"),
    ):
        words = name.split(".")
        for end in range(1, len(words) + 1):
            sys.modules.setdefault(".".join(words[:end]), ModuleType(".".join(words[:end])))
        setattr(sys.modules[name], attribute, type(attribute, (), {}))
    import streaming
    import streaming.base.util

    return streaming


def webdataset(rows: Structures, folder: Path) -> Epoch:
    """webdataset: tar files of pickled samples, files shuffled, then a buffer of 4000 samples; in this process."""
    import webdataset as wds

    if not folder.exists():
        folder.mkdir()
        with wds.ShardWriter(str(folder / "%03d.tar"), maxcount=2500, verbose=0) as writer:
            for number, sample in enumerate(rows):
                writer.write({"__key__": f"{number:07d}", "sample.bin": pickle.dumps(tuple(sample), protocol=5)})
    files = sorted(str(path) for path in folder.glob("*.tar"))

    def epoch() -> Iterator[Batch]:
        samples = wds.WebDataset(files, shardshuffle=len(files), empty_check=False).shuffle(4000)
        return batched(Sample(*pickle.loads(found["sample.bin"])) for found in samples)

    return epoch


def lmdb_pickles(rows: Structures, folder: Path) -> Epoch:
    """LMDB of pickled arrays, every sample at random, in this process."""
    import lmdb

    if not folder.exists():
        with lmdb.open(str(folder), map_size=1 << 36) as writing, writing.begin(write=True) as transaction:
            for number, sample in enumerate(rows):
                transaction.put(f"{number}".encode(), pickle.dumps(tuple(sample), protocol=5))
    reading = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    random, count = np.random.default_rng(0), len(rows)

    def epoch() -> Iterator[Batch]:
        with reading.begin(buffers=True) as transaction:
            order = random.permutation(count)
            yield from batched(Sample(*pickle.loads(transaction.get(f"{number}".encode()))) for number in order)

    return epoch


class AseRows(Dataset[Sample]):
    """Rows of an ASE-LMDB database as fairchem reads them: row, `Atoms`, arrays. Opened by the process that reads."""

    def __init__(self, rows: Structures, folder: Path) -> None:
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase_db_backends.aselmdb import LMDBDatabase

        self._path, self._open, self._count = folder / "structures.aselmdb", LMDBDatabase, len(rows)
        if not folder.exists():
            folder.mkdir()
            with self._open(self._path) as database:
                for sample in rows:
                    atoms = Atoms(sample.numbers, sample.positions)
                    atoms.calc = SinglePointCalculator(atoms, energy=sample.energy, forces=sample.forces)
                    database.write(atoms)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def database(self) -> Any:
        """Open for reading only, as for training."""
        return self._open(self._path, readonly=True, readahead=False, use_lock_file=False)

    def __getitem__(self, row: int) -> Sample:
        atoms = self.database._get_row_by_index(row).toatoms()
        return Sample(
            atoms.numbers.astype(np.uint8),
            atoms.get_positions(),
            atoms.get_potential_energy(apply_constraint=False),
            atoms.get_forces(apply_constraint=False),
        )


def ase_lmdb(rows: Structures, folder: Path) -> Epoch:
    """ASE-LMDB, every sample at random, in this process."""
    return loader(AseRows(rows, folder), workers=0, shuffle=True)
