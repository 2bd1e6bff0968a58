"""What is saved comes back bit by bit, on any number of ranks, whoever held which numbers."""

from collections.abc import Callable

import pytest
import torch
from safetensors import safe_open
from training_states import HOME, SHAPES, Layout, Ranks, alone, by_parameter, by_rows, flat, same, state, whole

from cluster.errors import StoreError
from cluster.store import Store
from jobs.checkpoints.commit import committed_steps, read_commit
from jobs.checkpoints.snapshot import Snapshot, SnapshotBuffer
from jobs.state.piece import Slots


def test_a_run_without_checkpoints_starts_afresh(begin: Callable[..., Ranks]) -> None:
    assert begin(2).newest() == [None, None]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("layout", [alone, by_parameter, by_rows, flat])
def test_a_checkpoint_comes_back_on_any_number_of_ranks(begin: Callable[..., Ranks], layout: Layout, size: int) -> None:
    everything = state(1)
    begin(size, layout).save(10, everything, notes={"reader": {"consumed": 7}})
    for others in (1, 2, 4):
        for found in begin(others).newest():
            assert found is not None
            assert (found.step, found.notes) == (10, {"reader": {"consumed": 7}})
            assert found.shapes == SHAPES
            assert same(whole(found), everything)


def test_any_stretch_is_found(begin: Callable[..., Ranks]) -> None:
    everything = state(2)
    begin(3, flat).save(10, everything)
    found = begin().newest()[0]
    assert found is not None
    values = everything["exp_avg"]["embed.weight"]
    for start in range(15):
        for stop in range(start, 16):
            assert torch.equal(found.find("exp_avg", "embed.weight", start, stop), values[start:stop])


def test_what_a_checkpoint_does_not_have_is_a_key_error(begin: Callable[..., Ranks]) -> None:
    begin().save(10, state(3))
    found = begin().newest()[0]
    assert found is not None
    with pytest.raises(KeyError, match="no momentum of scale"):
        found.find("momentum", "scale", 0, 1)
    with pytest.raises(KeyError, match=r"no numbers 10 to 20 of value of embed\.weight"):
        found.find("value", "embed.weight", 10, 20)


def test_the_newest_one_counts(begin: Callable[..., Ranks]) -> None:
    ranks = begin(2)
    for step in (10, 20):
        ranks.save(step, state(step))
    found = begin(2).newest()[1]
    assert found is not None
    assert found.step == 20
    assert same(whole(found), state(20))


def test_the_copy_is_taken_at_once(begin: Callable[..., Ranks]) -> None:
    everything, ranks = state(4), begin()
    (checkpoints,) = ranks.ranks
    notes = {"metrics": {"loss": 1.0}}
    checkpoints.save(10, flat(everything, 0, 1), SHAPES, notes, best=False)
    for parameters in everything.values():
        for values in parameters.values():
            values.zero_()
    notes["metrics"]["loss"] = 2.0
    checkpoints.finish()
    found = checkpoints.newest()
    assert found is not None
    assert same(whole(found), state(4))
    assert found.notes == {"metrics": {"loss": 1.0}}


def test_an_attempt_saves_a_step_once(begin: Callable[..., Ranks], store: Store) -> None:
    ranks = begin()
    ranks.save(10, state(5))
    before = store.read(f"{HOME}/00000010/COMMIT.json")
    ranks.save(10, state(6))
    ranks.newest()
    ranks.save(10, state(7))
    assert store.read(f"{HOME}/00000010/COMMIT.json") == before
    assert committed_steps(store, HOME) == [10]


def test_the_step_that_was_resumed_from_can_be_saved_again(begin: Callable[..., Ranks], store: Store) -> None:
    begin(2).save(10, state(5))
    again = begin(2)
    again.newest()
    again.save(10, state(6), best=True)
    found = begin().newest()[0]
    assert found is not None
    assert same(whole(found), state(6))
    assert read_commit(store, HOME, 10).best
    assert not [key for key in store.list(HOME) if "/a0001-" in key]


def test_the_files_are_safetensors(begin: Callable[..., Ranks], store: Store) -> None:
    everything = state(8)
    everything["value"]["scale"] = everything["value"]["scale"].double()
    begin(2, by_rows).save(10, everything)
    path = store.local_path(f"{HOME}/00000010/a0001-00000.safetensors")
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("value/embed.weight"), everything["value"]["embed.weight"][:9])
        assert file.get_tensor("value/scale").dtype == torch.float64
    with safe_open(store.local_path(f"{HOME}/00000010/a0001-00001.safetensors"), "pt") as file:
        assert '"value/embed.weight": 9' in file.metadata()["starts"]


def test_numbers_that_are_not_real_are_refused(begin: Callable[..., Ranks]) -> None:
    everything = state(9)
    everything["value"]["scale"] = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"value of scale is torch\.int64"):
        begin().save(10, everything)


def test_best_weights_that_stay_are_written_once(begin: Callable[..., Ranks], store: Store) -> None:
    everything, ranks = state(10, ("value", "best")), begin(2)
    ranks.save(10, everything, best=True)
    everything["value"] = state(11)["value"]
    ranks.save(20, everything)
    again = begin(2)  # the same ranks hold the same pieces
    again.newest()
    everything["value"] = state(12)["value"]
    again.save(30, everything)
    files = [key for key in store.list(HOME) if key.endswith("-best.safetensors")]
    assert files == [f"{HOME}/00000010/a0001-{rank:05d}-best.safetensors" for rank in (0, 1)]
    found = begin(3).newest()[0]
    assert found is not None
    assert found.step == 30
    assert same(whole(found), everything)


def test_best_weights_that_stay_are_not_even_copied(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, taken = SnapshotBuffer.take, []

    def take(self: SnapshotBuffer, slots: Slots) -> Snapshot:
        taken.extend(slots)
        return usual(self, slots)

    monkeypatch.setattr(SnapshotBuffer, "take", take)
    everything, ranks = state(10, ("value", "best")), begin()
    for step, best in ((10, True), (20, False), (30, False), (40, True)):
        ranks.save(step, everything, best=best)
    again = begin()
    again.newest()
    for step in (50, 60):  # the first one cannot know that this rank holds what another one did
        again.save(step, everything)
    assert taken == ["value", "best", "value", "value", "value", "best", "value", "best", "value"]
    found = begin(2).newest()[0]
    assert found is not None
    assert same(whole(found), everything)


def test_best_weights_that_were_not_committed_are_taken_again(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything, ranks = state(10, ("value", "best")), begin(patience=0.2)
    ranks.save(10, everything, best=True)
    everything["best"] = state(11)["value"]

    def fails(*arguments: object) -> None:
        raise StoreError("the store is down")

    with monkeypatch.context() as down:
        down.setattr(type(store), "upload_file", fails)
        with pytest.raises(StoreError):
            ranks.save(20, everything, best=True)
    ranks.save(30, everything)
    found = begin().newest()[0]
    assert found is not None
    assert same(whole(found), everything)
