"""Checks of conditional writes: the only means by which many writers never lose each other's work."""

from cluster.errors import StoreError
from cluster.store.checking import RACERS, body, check, demand, race, refused
from cluster.store.documents import decode_json, swap_json
from cluster.store.interface import Store
from cluster.store.keys import join

TRIALS = 3


@check("publishing again could overwrite a dataset or a model that exists")
def the_first_creation_wins(store: Store, folder: str) -> None:
    """Create-if-absent is refused where the object exists, and leaves it as it was."""
    key = join(folder, "object")
    store.write(key, b"first", if_absent=True)
    demand(refused(lambda: store.write(key, b"second", if_absent=True)), "it ignores If-None-Match on what exists")
    demand(store.read(key) == b"first", "a refused creation changed the object")


@check("two publications at once could both get the same version, and one of them would be lost")
def one_of_many_creations_wins(store: Store, folder: str) -> None:
    """Of eight simultaneous creations exactly one wins, and its bytes are the ones that stay."""
    for trial in range(TRIALS):
        key = join(folder, f"race-{trial}")
        won = race(lambda number, key=key: store.write(key, body(number), if_absent=True))  # type: ignore[misc]
        demand(len(won) == 1, f"{len(won)} of {RACERS} simultaneous creations won, not one")
        demand(store.read(key) == body(won[0]), "the object is not that of the winner")


@check("an alias such as @prod or the record of a run could be overwritten by somebody who has not seen it")
def a_stale_swap_is_refused(store: Store, folder: str) -> None:
    """Compare-and-swap succeeds with the etag of the object; an older one, or no object, refuses it."""
    key = join(folder, "object")
    first = store.write(key, b"first")
    demand(store.read_tagged(key)[1] == first, "the etag of a write is not the etag that is read")
    try:
        second = store.write(key, b"second", if_match=first)
    except StoreError as error:
        raise StoreError(f"it refuses a swap with the right etag: {error.message}") from error
    demand(refused(lambda: store.write(key, b"third", if_match=first)), "it ignores If-Match with an old etag")
    demand(store.read_tagged(key) == (b"second", second), "a refused swap changed the object")
    store.delete(key)
    demand(refused(lambda: store.write(key, b"fourth", if_match=second)), "a swap created an object")


@check("two promotions of a model at once could both be told that they succeeded")
def one_of_many_swaps_wins(store: Store, folder: str) -> None:
    """Of eight simultaneous swaps with the same etag exactly one wins."""
    for trial in range(TRIALS):
        key = join(folder, f"race-{trial}")
        etag = store.write(key, b"start")

        def swap(number: int, key: str = key, etag: str = etag) -> str:
            return store.write(key, body(number), if_match=etag)

        won = race(swap)
        demand(len(won) == 1, f"{len(won)} of {RACERS} simultaneous swaps won, not one")
        demand(store.read(key) == body(won[0]), "the object is not that of the winner")


@check("what a run records of itself, or an alias remembers of its moves, would lose entries")
def no_change_is_lost(store: Store, folder: str) -> None:
    """Eight writers that each add their name to one document all find it there in the end."""
    key = join(folder, "names.json")
    swap_json(store, key, lambda old: {})

    def add(number: int) -> None:
        swap_json(store, key, lambda old: {**(old or {}), str(number): True}, attempts=64)

    race(add)
    found = sorted(decode_json(store.read(key), key))
    demand(found == [str(number) for number in range(RACERS)], f"only {found} of {RACERS} changes are left")
