"""The registry: a version is whole or invisible, belongs to one publication, and comes back as it went."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NotFoundError, StoreError, UserError
from cluster.registry import (
    ModelRef,
    fetch_model,
    list_models,
    load_manifest,
    move_alias,
    publish_model,
    resolve,
)
from cluster.store import Store, decode_json, encode_json, open_store
from cluster.store.local import LocalStore

FACTS = {
    "task": "energy_forces",
    "dataset": {"ref": "ethanol-xtb@1", "digest": "d" * 64},
    "spec": {"kind": "train", "seed": 0},
    "code_version": "0.1.0",
    "metrics": {"valid/force_mae": 0.02},
    "note": "kept",
}


@pytest.fixture
def make(tmp_path: Path):
    """Make a model folder whose weights are the given bytes."""

    def build(weights: bytes) -> Path:
        folder = tmp_path / f"model-{weights.hex()}"
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "model.json").write_bytes(b"{}")
        return folder

    return build


def facts(run: str, **changes: Any) -> dict[str, Any]:
    return {**FACTS, "run": run, **changes}


def test_what_is_published_is_fetched_with_its_history(store: Store, make, tmp_path: Path) -> None:
    ref = publish_model(store, "ethanol", make(b"w"), facts("r1"))
    assert str(ref) == "ethanol@1"
    assert store.list("models/ethanol/1") == [
        f"models/ethanol/1/{name}" for name in ("manifest.json", "model.json", "weights.safetensors")
    ]
    manifest = fetch_model(store, "ethanol@1", tmp_path / "out")
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == b"w"
    assert manifest == load_manifest(store, "ethanol")
    assert (manifest.run, manifest.task) == ("r1", "energy_forces")
    assert manifest.dataset == FACTS["dataset"]
    assert manifest.spec == FACTS["spec"]
    assert manifest.metrics == FACTS["metrics"]
    assert manifest.more == {"note": "kept"}
    assert decode_json((tmp_path / "out" / "manifest.json").read_bytes(), "")["version"] == 1


def test_each_run_gets_a_version_of_its_own(store: Store, make) -> None:
    refs = [publish_model(store, "ethanol", make(b"w"), facts(run)) for run in ("r1", "r2")]
    assert refs == [ModelRef("ethanol", 1), ModelRef("ethanol", 2)]
    assert [str(manifest.ref) for manifest in list_models(store)] == ["ethanol@1", "ethanol@2"]


def test_a_publication_repeated_by_its_run_is_the_same_version(store: Store, make) -> None:
    first = publish_model(store, "ethanol", make(b"w"), facts("r1"))
    publish_model(store, "ethanol", make(b"x"), facts("r2"))
    before = store.list()
    assert publish_model(store, "ethanol", make(b"w"), facts("r1", code_version="0.2.0")) == first
    assert store.list() == before


def test_without_a_run_other_facts_make_another_version(store: Store, make) -> None:
    assert publish_model(store, "ethanol", make(b"w"), FACTS).version == 1
    assert publish_model(store, "ethanol", make(b"w"), FACTS).version == 1
    assert publish_model(store, "ethanol", make(b"w"), {**FACTS, "metrics": {}}).version == 2


def test_a_folder_without_weights_is_no_model(store: Store, make) -> None:
    folder = make(b"w")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        publish_model(store, "ethanol", folder, FACTS)
    assert store.list() == []


def test_facts_of_a_wrong_type_are_refused_before_anything_is_written(store: Store, make) -> None:
    with pytest.raises(UserError, match="model 'ethanol' cannot be described"):
        publish_model(store, "ethanol", make(b"w"), {**FACTS, "metrics": "good"})
    assert store.list() == []


class Dies(LocalStore):
    """A store whose writer is killed at the write numbered `at`, before or after it is applied."""

    at = 0
    after = False

    def count(self, action: Any) -> Any:
        self.at -= 1
        if self.at == 0 and not self.after:
            raise KeyboardInterrupt
        result = action()
        if self.at == 0:
            raise KeyboardInterrupt
        return result

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return self.count(lambda: LocalStore.write(self, key, data, if_absent=if_absent, if_match=if_match))  # type: ignore[no-any-return]

    def upload_file(self, path: Path, key: str) -> None:
        self.count(lambda: LocalStore.upload_file(self, path, key))


@pytest.mark.parametrize(
    ("at", "after"),  # the claim, two files, the manifest: once that is there, the version was published
    [(1, False), (1, True), (2, False), (2, True), (3, False), (3, True), (4, False)],
)
def test_a_kill_leaves_no_version_and_the_next_try_takes_its_number(
    store: LocalStore, make, at: int, after: bool
) -> None:
    dying = Dies(store.root)
    dying.at, dying.after = at, after
    with pytest.raises(KeyboardInterrupt):
        publish_model(dying, "ethanol", make(b"w"), facts("r1"))
    assert list_models(store) == []
    with pytest.raises(NotFoundError):
        resolve(store, "ethanol")
    assert publish_model(store, "ethanol", make(b"w"), facts("r1")).version == 1
    assert len(store.list()) == 3


def test_a_number_claimed_by_another_run_is_left_alone(store: LocalStore, make) -> None:
    dying = Dies(store.root)
    dying.at = 3
    with pytest.raises(KeyboardInterrupt):
        publish_model(dying, "ethanol", make(b"slow"), facts("slow"))
    assert publish_model(store, "ethanol", make(b"fast"), facts("fast")).version == 2
    assert publish_model(store, "ethanol", make(b"slow"), facts("slow")).version == 1
    assert resolve(store, "ethanol").version == 2


def test_publications_at_a_time_never_mix(store: Store, make, tmp_path: Path) -> None:
    folders = [make(bytes([number])) for number in range(6)]
    start = threading.Barrier(6)

    def run(number: int) -> ModelRef:
        start.wait()
        return publish_model(open_store(store.uri), "ethanol", folders[number], facts(f"r{number}"))

    with ThreadPoolExecutor(6) as pool:
        refs = list(pool.map(run, range(6)))
    assert sorted(ref.version for ref in refs) == [1, 2, 3, 4, 5, 6]
    for number, ref in enumerate(refs):
        manifest = fetch_model(store, str(ref), tmp_path / str(number))
        assert manifest.run == f"r{number}"
        assert (tmp_path / str(number) / "weights.safetensors").read_bytes() == bytes([number])


def test_a_version_published_between_the_look_and_the_claim_is_not_written_over(
    store: Store, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, listing, looks = open_store(store.uri), type(store).children, []
    first, second = make(b"first"), make(b"second")

    def stale(self: Store, prefix: str = "") -> Any:
        found = listing(self, prefix)
        if self is slow:
            looks.append(prefix)
            if len(looks) == 2:  # the one for the number to claim
                publish_model(store, "ethanol", first, facts("r1"))
        return found

    monkeypatch.setattr(type(store), "children", stale)
    assert publish_model(slow, "ethanol", second, facts("r2")).version == 2
    for number, run in ((1, "r1"), (2, "r2")):
        assert fetch_model(store, f"ethanol@{number}", tmp_path / str(number)).run == run
    assert (tmp_path / "1" / "weights.safetensors").read_bytes() == b"first"
    assert not [key for key in store.list("models/ethanol") if key.endswith("claim.json")]


def test_one_publication_tried_at_a_time_is_one_version(store: Store, make) -> None:
    folder = make(b"w")
    start = threading.Barrier(6)

    def run(_: int) -> str:
        start.wait()
        return str(publish_model(open_store(store.uri), "ethanol", folder, facts("r1")))

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(run, range(6))) == {"ethanol@1"}
    assert [str(manifest.ref) for manifest in list_models(store)] == ["ethanol@1"]


def test_a_changed_or_lost_file_is_not_fetched(store: Store, make, tmp_path: Path) -> None:
    publish_model(store, "ethanol", make(b"good"), FACTS)
    store.write("models/ethanol/1/weights.safetensors", b"evil")
    with pytest.raises(StoreError, match=r"weights\.safetensors of model ethanol@1 is not the file"):
        fetch_model(store, "ethanol", tmp_path / "out")
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    store.delete("models/ethanol/1/weights.safetensors")
    with pytest.raises(StoreError, match=r"has lost weights\.safetensors"):
        fetch_model(store, "ethanol", tmp_path / "out")


def test_a_manifest_cannot_write_outside_the_folder(store: Store, make, tmp_path: Path) -> None:
    publish_model(store, "ethanol", make(b"w"), FACTS)
    key = "models/ethanol/1/manifest.json"
    document = decode_json(store.read(key), key)
    document["files"][0]["path"] = "../escaped"
    store.write(key, encode_json(document))
    with pytest.raises(StoreError, match="is not a key"):
        fetch_model(store, "ethanol", tmp_path / "out" / "in")
    assert not (tmp_path / "out" / "escaped").exists()


def test_a_reference_is_a_version_an_alias_or_the_latest(store: Store, make) -> None:
    for run in ("r1", "r2"):
        publish_model(store, "ethanol", make(b"w"), facts(run))
    move_alias(store, "ethanol", "prod", 1, who="me", why="good")
    for text, version in (("ethanol", 2), ("ethanol@1", 1), ("ethanol@prod", 1), ("models/ethanol@2", 2)):
        assert resolve(store, text) == ModelRef("ethanol", version)


def test_what_a_reference_does_not_find_it_names_the_nearest_to(store: Store, make) -> None:
    publish_model(store, "ethanol", make(b"w"), FACTS)
    move_alias(store, "ethanol", "prod", 1, who="me", why="good")
    for text, message in (
        ("ethanl", r"no model 'ethanl'; did you mean 'ethanol'"),
        ("water@1", r"no model 'water'\n.*models in .*: ethanol"),
        ("ethanol@prd", r"no alias 'prd'; did you mean 'prod'"),
        ("ethanol@2", r"no version '2'\n.*: prod, 1"),
    ):
        with pytest.raises(NotFoundError, match=message):
            resolve(store, text)


@pytest.mark.parametrize("text", ["", "@1", "a/b", "ethanol@", "ethanol@a/b", "ethanol@1@2"])
def test_what_is_no_reference_is_refused(store: Store, text: str) -> None:
    with pytest.raises(UserError):
        resolve(store, text)
