"""Reading datasets: references, what errors name, and what verification finds."""

import pyarrow as pa
import pytest

from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import list_datasets, load_manifest, parse_reference, read_table
from cluster.dataset.schema import images_schema, require_kind
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


def test_a_manifest_that_counts_wrongly_is_found(pictures: Store) -> None:
    key = "datasets/pictures/1/manifest.json"
    document = decode_json(pictures.read(key), key)
    pictures.write(key, encode_json({**document, "splits": {"train": 6}}))
    assert "the manifest counts 6 rows" in verify_dataset(pictures, "pictures@1")[0]
    pictures.write(key, encode_json({**document, "digest": "0" * 64}))
    assert verify_dataset(pictures, "pictures@1") == [
        "the shards of the manifest are not the ones its digest was made of"
    ]


def test_a_damaged_or_newer_manifest_is_an_error_that_names_it(pictures: Store) -> None:
    key = "datasets/pictures/1/manifest.json"
    document = decode_json(pictures.read(key), key)
    for data, message in (
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no manifest"),
        (
            encode_json({**document, "schema_version": 99}),
            "newer release(.|\\n)*versions 1 to 2(.|\\n)*upgrade equimodels",
        ),
    ):
        pictures.write(key, data)
        with pytest.raises(StoreError, match=message):
            load_manifest(pictures, "pictures@1")
