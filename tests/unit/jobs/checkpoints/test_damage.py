"""Checkpoints that are not what was committed: seen, named, passed over."""

from collections.abc import Callable

import pytest
from training_states import HOME, Ranks, Whole, by_parameter, same, state, whole

from cluster.store import Store
from jobs.checkpoints import CheckpointError, DamagedCheckpointError, open_checkpoint
from jobs.checkpoints.commit import committed_steps
from jobs.state.piece import Slots

FILE = f"{HOME}/00000020/a0001-00001.safetensors"
INDEX = f"{HOME}/00000020/a0001-00001.json"
COMMIT = f"{HOME}/00000020/COMMIT.json"


def flip(store: Store, key: str) -> None:
    data = bytearray(store.read(key))
    data[-3] ^= 1
    store.write(key, bytes(data))


def cut(store: Store, key: str) -> None:
    store.write(key, store.read(key)[:-1])


def lengthen(store: Store, key: str) -> None:
    store.write(key, b"x" + store.read(key))


def remove(store: Store, key: str) -> None:
    store.delete(key)


CASES = [
    (flip, FILE, "damaged: its sha256"),
    (cut, FILE, "cut short"),
    (lengthen, FILE, "damaged: its sha256"),
    (remove, FILE, "missing"),
    (flip, INDEX, "damaged: its sha256"),
    (cut, INDEX, "damaged: its sha256"),
    (remove, INDEX, "missing"),
    (cut, COMMIT, "damaged"),
]


@pytest.mark.parametrize(("harm", "key", "words"), CASES)
def test_a_damaged_checkpoint_is_passed_over_by_all_ranks_and_named(
    begin: Callable[..., Ranks], store: Store, harm: Callable[[Store, str], None], key: str, words: str
) -> None:
    ranks = begin(2)
    for step in (10, 20):
        ranks.save(step, state(step))
    if harm is cut and key == COMMIT:
        store.write(key, store.read(key)[:-9])
    else:
        harm(store, key)
    again = begin(2)
    with pytest.warns(UserWarning, match=f"checkpoint 20 is passed over: {key} is {words}"):
        found = again.newest()
    assert [one.step for one in found if one] == [10, 10]
    assert same(whole(found[1]), state(10))  # type: ignore[arg-type]
    assert committed_steps(store, HOME) == [10]  # swept: nobody tries it again
    again.save(20, state(20))
    newest = begin(2).newest()[0]
    assert newest is not None
    assert same(whole(newest), state(20))


def test_when_none_is_intact_the_run_does_not_begin_again_silently(begin: Callable[..., Ranks], store: Store) -> None:
    begin(2).save(20, state(20))
    remove(store, FILE)
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(DamagedCheckpointError, match="none of the checkpoints 20 is intact"),
    ):
        begin(2).newest()
    assert committed_steps(store, HOME) == [20]  # nothing is removed: a person may have a copy of the file


def test_who_reads_a_part_sees_damage_in_that_part(begin: Callable[..., Ranks], store: Store) -> None:
    begin(2).save(20, state(20))
    flip(store, FILE)
    with pytest.raises(DamagedCheckpointError, match=f"{FILE} is damaged between bytes 0 and"):
        whole(open_checkpoint(store, "r1"))


def test_pieces_that_do_not_cover_a_parameter_are_never_committed(begin: Callable[..., Ranks], store: Store) -> None:
    def twice(everything: Whole, rank: int, size: int) -> Slots:
        return by_parameter(everything, 0, 1)

    def half(everything: Whole, rank: int, size: int) -> Slots:
        return by_parameter(everything, 0, 2)

    for size, layout, words in ((2, twice, "are there twice"), (1, half, "no rank holds the")):
        with pytest.raises(CheckpointError, match=words):
            begin(size, layout, patience=1.0).save(20, state(20))
    assert committed_steps(store, HOME) == []
