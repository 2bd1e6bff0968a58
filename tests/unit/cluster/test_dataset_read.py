"""Reading datasets: references, what errors name, and what verification finds."""

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.digest import content_digest
from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import list_datasets, load_manifest, parse_reference, read_table
from cluster.dataset.schema import images_schema, require_kind
from cluster.dataset.statistics import image_statistics, structure_statistics
from cluster.dataset.verify import verify_dataset
from cluster.errors import NotFoundError, StoreError, UserError
from cluster.store import Store, decode_json, encode_json


def images(rows: int = 6, shift: float = 0.0) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": f"i{row}",
                "pixels": [row + shift, 1.0],
                "label": row % 3,
                "group": f"i{row}",
                "split": "test" if row == 5 else "train",
            }
            for row in range(rows)
        ],
        schema=images_schema((1, 1, 2)),
    )


@pytest.fixture
def pictures(store: Store) -> Store:
    """A store with pictures@1 and pictures@2."""
    for shift in (0.0, 1.0):
        publish_dataset(store, "pictures", images(shift=shift), kind="images", provenance={}, rows_per_shard=4)
    return store


def test_a_reference_is_a_name_with_or_without_a_version() -> None:
    assert parse_reference("ethanol@3") == ("ethanol", 3)
    assert parse_reference("datasets/ethanol-xtb@12") == ("ethanol-xtb", 12)
    assert parse_reference("ethanol") == ("ethanol", None)


@pytest.mark.parametrize("text", ["ethanol@", "ethanol@latest", "ethanol@0", "a/b@1", "@1", "a@1@2", "models/a@1"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_reference(text)


def test_without_a_version_the_latest_is_meant(pictures: Store) -> None:
    assert load_manifest(pictures, "pictures").version == 2
    assert load_manifest(pictures, "pictures@1").version == 1
    assert [manifest.ref for manifest in list_datasets(pictures)] == ["pictures@1", "pictures@2"]


def test_versions_are_ordered_as_numbers(store: Store) -> None:
    for shift in range(11):
        publish_dataset(store, "pictures", images(shift=float(shift)), kind="images", provenance={})
    assert load_manifest(store, "pictures").version == 11
    assert [manifest.version for manifest in list_datasets(store)] == list(range(1, 12))


def test_an_unknown_dataset_names_the_nearest(pictures: Store) -> None:
    with pytest.raises(NotFoundError, match="there is no dataset 'picture'; did you mean 'pictures'"):
        load_manifest(pictures, "picture@1")
    with pytest.raises(NotFoundError, match=r"datasets in .*: pictures"):
        load_manifest(pictures, "zzz")


def test_an_unknown_version_names_those_that_are_there(pictures: Store) -> None:
    with pytest.raises(NotFoundError, match=r"no version 7(.|\n)*its versions: 1, 2"):
        load_manifest(pictures, "pictures@7")


def test_an_unknown_column_or_split_is_named(pictures: Store) -> None:
    with pytest.raises(NotFoundError, match="no column 'lable'; did you mean 'label'"):
        read_table(pictures, "pictures", columns=["lable"])
    with pytest.raises(NotFoundError, match=r"no split 'validation'(.|\n)*train, valid, test"):
        read_table(pictures, "pictures", split="validation")


def test_a_dataset_of_another_kind_is_refused_with_its_missing_columns(pictures: Store) -> None:
    manifest = load_manifest(pictures, "pictures")
    require_kind(manifest, "images")
    with pytest.raises(
        UserError, match="holds images, not structures; missing columns: numbers, positions, energy, forces"
    ):
        require_kind(manifest, "structures")


def test_a_changed_shard_is_found(pictures: Store) -> None:
    key = f"datasets/pictures/1/{load_manifest(pictures, 'pictures@1').shards[0].path}"
    data = bytearray(pictures.read(key))
    data[len(data) // 2] ^= 1
    pictures.write(key, bytes(data))
    assert "is not the file that was published" in verify_dataset(pictures, "pictures@1")[0]
    assert verify_dataset(pictures, "pictures@2") == []


def test_a_lost_shard_is_found(pictures: Store) -> None:
    pictures.delete(f"datasets/pictures/1/{load_manifest(pictures, 'pictures@1').shards[1].path}")
    assert "is missing" in verify_dataset(pictures, "pictures@1")[0]
    with pytest.raises(NotFoundError, match="has lost a shard"):
        read_table(pictures, "pictures@1")


def test_a_manifest_that_counts_wrongly_is_found(pictures: Store) -> None:
    key = "datasets/pictures/1/manifest.json"
    document = decode_json(pictures.read(key), key)
    pictures.write(key, encode_json({**document, "splits": {"train": 6}}))
    assert "the manifest counts 6 rows" in verify_dataset(pictures, "pictures@1")[0]
    pictures.write(key, encode_json({**document, "digest": "0" * 64}))
    assert verify_dataset(pictures, "pictures@1") == ["the rows are not the ones the digest was made of"]


def test_a_damaged_or_newer_manifest_is_an_error_that_names_it(pictures: Store) -> None:
    key = "datasets/pictures/1/manifest.json"
    document = decode_json(pictures.read(key), key)
    for data, message in (
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no manifest"),
        (encode_json({**document, "schema_version": 99}), "newer release"),
    ):
        pictures.write(key, data)
        with pytest.raises(StoreError, match=message):
            load_manifest(pictures, "pictures@1")


def test_the_digest_depends_on_values_not_on_chunks() -> None:
    table = images()
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1, 3), table.slice(4)])
    assert content_digest(pieces, "images", 1) == content_digest(table, "images", 1)
    assert content_digest(table, "images", 2) != content_digest(table, "images", 1)
    assert content_digest(images(shift=1e-3), "images", 1) != content_digest(table, "images", 1)


def test_the_digest_tells_where_one_text_or_list_ends() -> None:
    for one, other in ((["ab", "c"], ["a", "bc"]), ([[1, 2], [3]], [[1], [2, 3]])):
        digests = {content_digest(pa.table({"a": values}), "images", 1) for values in (one, other)}
        assert len(digests) == 2


def test_the_digest_of_a_small_table_never_changes() -> None:
    # Versions published by an earlier release must be recognised by this one.
    assert content_digest(images(), "images", 1) == PINNED


PINNED = "814fa8d7f442f2860ac1daf568f37d6408dc8ebab6062a31dc92c675e91c0097"


def test_structure_statistics_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    rows = [
        {
            "numbers": [1] * size + [8],
            "energy": float(random.normal()),
            "forces": random.normal(size=3 * size + 3).tolist(),
            "split": split,
        }
        for size, split in ((1, "train"), (2, "test"), (3, "train"), (2, "train"))
    ]
    found = structure_statistics(pa.Table.from_pylist(rows))
    train = [row for row in rows if row["split"] == "train"]
    energies = [row["energy"] / len(row["numbers"]) for row in train]  # type: ignore[arg-type, operator]
    forces = [f for row in train for f in row["forces"]]  # type: ignore[attr-defined]
    assert found["species"] == [1, 8]
    assert found["atoms_by_species"] == {"1": 8, "8": 4}
    assert found["atoms_per_structure"] == [2, 4]
    assert found["energy_per_atom_mean_eV"] == pytest.approx(sum(energies) / 3)
    assert found["energy_per_atom_std_eV"] == pytest.approx(np.std(energies))
    assert found["force_mean_abs_eV_per_angstrom"] == pytest.approx(sum(abs(f) for f in forces) / len(forces))
    assert found["force_rms_eV_per_angstrom"] == pytest.approx((sum(f * f for f in forces) / len(forces)) ** 0.5)


def test_image_statistics_leave_the_test_pixels_out() -> None:
    table = images()
    found = image_statistics(table)
    assert found["shape"] == [1, 1, 2]
    assert found["pixel_mean"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 5) / 10)
    assert found["rows_by_label"] == {"0": 2, "1": 2, "2": 2}
    assert found["classes"] == 3
