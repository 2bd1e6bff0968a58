"""The public data sets of EQUI_BENCH_DATA, from their shipped specs to a published dataset, against their files."""

import os
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import units
from rich.console import Console

import jobs
from cluster.context import RunContext
from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.session import Session, open_session
from cluster.spec.load import load_spec
from cluster.store import Store
from jobs.evaluation.frames import frames_of
from jobs.evaluation.metrics import energy_mae_per_atom, force_mean_abs, training_mean
from jobs.ingest.run import run
from jobs.ingest.schedule import in_turn

pytestmark = [
    pytest.mark.bench_data,
    pytest.mark.integration,
    pytest.mark.skipif("EQUI_BENCH_DATA" not in os.environ, reason="EQUI_BENCH_DATA is not set"),
]

SPECS = Path(jobs.__file__).parent / "specs" / "data"
FILES = {
    "rmd17": {"source.params.file": "rmd17/rmd17_ethanol_train_01.npz",
              "source.params.test_file": "rmd17/rmd17_ethanol_test_01.npz"},
    "3bpa": {"source.params.file": "3bpa/train_300K.xyz", "source.params.test_file": "3bpa/train_mixedT.xyz",
             "reference_energies.file": "3bpa/iso_atoms.xyz"},
    "gdb1k": {"source.params.file": "gdb1k/gdb1k.sdf"},
    "mnist": {"source.params.file": "mnist/mnist.npz"},
    "digits": {},
}  # fmt: skip

# Of the README: 0-based indices in train_mixedT.xyz of frames that train_300K.xyz has as well.
COPIES = (
    "6 19 22 29 34 36 44 49 63 69 73 74 78 82 84 92 97 102 108 119 120 122 128 129 134 138 140 144 150 152 164"
)  # fmt: skip


def data(name: str) -> Path:
    return Path(os.environ["EQUI_BENCH_DATA"]) / name


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(home=tmp_path_factory.mktemp("home"), cpus=2) as opened:
        yield opened


def ingest(store: Store, name: str, session: Session | None = None, overrides: tuple[str, ...] = ()) -> Dataset:
    """The dataset of a shipped spec, its files named as a user would name them."""
    named = [f"{setting}={data(file)}" for setting, file in FILES[name].items()]
    loaded = load_spec(SPECS / f"{name}.yaml", [*named, *overrides])
    progress = Progress(console=Console(file=StringIO()), store=store, run_id="r1")
    context: Any = RunContext("r1", store, progress, Path(), False, lambda: False, session)  # type: ignore[arg-type]
    outputs = run(loaded.spec, context) if session is not None else run(loaded.spec, context, in_turn)
    assert verify_dataset(store, outputs["dataset"]) == []
    return open_dataset(outputs["dataset"], store=store)


def row(dataset: Dataset, name: str) -> dict[str, Any]:
    (found,) = [each for each in dataset.table().to_pylist() if each["id"] == name]
    return dict(found)


def test_rmd17_ethanol_is_in_ev_and_has_the_trivial_baseline_of_its_readme(store: Store, session: Session) -> None:
    dataset = ingest(store, "rmd17", session)
    assert dataset.manifest.splits == {"train": 950, "valid": 50, "test": 1000}
    with np.load(data("rmd17/rmd17_ethanol_test_01.npz"), allow_pickle=False) as arrays:
        found = row(dataset, "rmd17_ethanol_test_01-000123")
        assert found["split"] == "test"
        assert found["numbers"] == arrays["nuclear_charges"].tolist()
        np.testing.assert_array_equal(found["positions"], arrays["coords"][123].ravel())
        kcal = units.kcal / units.mol
        assert found["energy"] == pytest.approx(arrays["energies"][123] * kcal, abs=1e-9)
        np.testing.assert_allclose(found["forces"], arrays["forces"][123].ravel() * kcal, rtol=1e-14)
    train, test = (frames_of(dataset.table(split=split)) for split in ("train", "test"))
    mean = training_mean(train, test)
    # Training-mean energy and zero force: 140.8 meV and 876.8 meV/angstrom.
    assert 9 * energy_mae_per_atom(test, mean.energies) == pytest.approx(0.1408, rel=0.01)
    assert force_mean_abs(test) == pytest.approx(0.8768, rel=1e-4)


def test_3bpa_has_31_frames_in_both_files_which_are_found_and_dropped(store: Store) -> None:
    with pytest.raises(UserError, match="31 contents are in more than one split: train_300K-") as caught:
        ingest(store, "3bpa", overrides=("split.duplicates=refuse",))
    assert set(re.findall(r"train_mixedT-(\d+)", caught.value.message)) <= {f"{int(i):06d}" for i in COPIES.split()}
    dataset = ingest(store, "3bpa")
    assert dataset.rows("test") == 500
    assert len(dataset) == 969
    assert dataset.manifest.provenance["split"]["copies_dropped"] == 31
    mixed: Any = ase.io.read(data("3bpa/train_mixedT.xyz"), index=":", format="extxyz")
    cool: Any = ase.io.read(data("3bpa/train_300K.xyz"), index=":", format="extxyz")
    there = {atoms.positions.tobytes(): number for number, atoms in enumerate(cool)}
    gone = {there[mixed[int(index)].positions.tobytes()] for index in COPIES.split()}
    left = {int(name.rsplit("-", 1)[1]) for name in dataset.table()["id"].to_pylist() if name.startswith("train_300K")}
    assert left == set(range(500)) - gone


def test_3bpa_is_read_as_it_is_and_its_energies_are_above_those_of_its_atoms(store: Store) -> None:
    dataset = ingest(store, "3bpa")
    atoms: Any = ase.io.read(data("3bpa/train_mixedT.xyz"), index=7, format="extxyz")
    found = row(dataset, "train_mixedT-000007")
    assert found["numbers"] == atoms.numbers.tolist()
    assert found["positions"] == atoms.positions.ravel().tolist()
    assert found["forces"] == atoms.calc.results["forces"].ravel().tolist()
    isolated: Any = ase.io.read(data("3bpa/iso_atoms.xyz"), index=":", format="extxyz")
    energies = {int(atom.numbers[0]): atom.calc.results["energy"] for atom in isolated}
    own = sum(energies[number] for number in atoms.numbers.tolist())
    assert found["energy"] == pytest.approx(atoms.calc.results["energy"] - own, abs=1e-8)
    assert {"cell", "pbc"} & set(found) == set()
    assert {len(numbers) for numbers in dataset.table()["numbers"].to_pylist()} == {27}


def test_gdb1k_is_read_whole_and_no_formula_is_in_two_splits(store: Store) -> None:
    dataset = ingest(store, "gdb1k")
    assert len(dataset) == 1000
    statistics = dataset.manifest.statistics
    assert statistics["atoms_by_species"] == {"1": 7779, "6": 4680, "7": 851, "8": 770, "16": 58}
    assert statistics["atoms_per_structure"] == [5, 23]
    assert "energy" not in dataset.schema.names
    sides: dict[tuple[int, ...], set[str]] = {}
    for each in dataset.table(columns=["numbers", "split"]).to_pylist():
        sides.setdefault(tuple(sorted(each["numbers"])), set()).add(each["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    record = data("gdb1k/gdb1k.sdf").read_text().split("$$$$\n")[500].split("\n")
    found = row(dataset, "gdb1k-000500")
    count = int(record[3][:3])
    lines = [line.split() for line in record[4 : 4 + count]]
    assert found["positions"] == [float(word) for words in lines for word in words[:3]]
    assert len(found["numbers"]) == count


def test_mnist_stays_bytes_and_keeps_its_test_rows(store: Store, session: Session) -> None:
    dataset = ingest(store, "mnist", session)
    assert dataset.manifest.splits == {"train": 54000, "valid": 6000, "test": 10000}
    assert str(dataset.schema.field("pixels").type.value_type) == "uint8"
    with np.load(data("mnist/mnist.npz"), allow_pickle=False) as arrays:
        test = dataset.table(split="test")
        pixels = test["pixels"].combine_chunks().storage.flatten().to_numpy().reshape(-1, 28, 28)
        np.testing.assert_array_equal(pixels, arrays["x_test"])
        assert test["label"].to_pylist() == arrays["y_test"].tolist()
        shares = np.bincount(dataset.table(split="valid", columns=["label"])["label"].to_numpy())
        assert np.abs(shares - 0.1 * np.bincount(arrays["y_train"])).max() <= 1
    # Of all 60,000 rows it is 0.1307 and 0.3081.
    assert dataset.manifest.statistics["pixel_mean"] == pytest.approx(0.1307, abs=2e-4)
    assert dataset.manifest.statistics["pixel_std"] == pytest.approx(0.3081, abs=2e-4)


def test_the_digits_are_those_of_the_library(store: Store) -> None:
    from sklearn.datasets import load_digits

    dataset = ingest(store, "digits")
    assert dataset.manifest.splits == {"train": 1258, "valid": 180, "test": 359}
    found = row(dataset, "digit-0042")
    assert np.reshape(found["pixels"], (8, 8)).tolist() == (load_digits().images[42] / 16).tolist()
    assert found["label"] == load_digits().target[42]
