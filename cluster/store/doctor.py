"""What a store must keep to be ours: checks that run against any store, in tests and as `equi store doctor`."""

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster.errors import UserError
from cluster.store import checks_of_conditions, checks_of_objects, checks_of_ranges, checks_of_transfers
from cluster.store.checking import Check
from cluster.store.interface import Store

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        checks_of_objects.what_is_written_is_read,
        checks_of_objects.what_is_deleted_is_gone,
        checks_of_objects.a_folder_is_deleted_whole_and_alone,
        checks_of_conditions.the_first_creation_wins,
        checks_of_conditions.one_of_many_creations_wins,
        checks_of_conditions.a_stale_swap_is_refused,
        checks_of_conditions.one_of_many_swaps_wins,
        checks_of_conditions.no_change_is_lost,
        checks_of_objects.a_prefix_is_a_folder,
        checks_of_objects.a_long_listing_is_complete_at_once,
        checks_of_ranges.ranges_are_read_exactly,
        checks_of_ranges.the_end_of_an_object_is_read,
        checks_of_ranges.a_range_beyond_the_end_is_an_error,
        checks_of_ranges.arrow_reads_ranges,
        checks_of_transfers.a_folder_travels_both_ways,
        checks_of_transfers.a_large_object_keeps_its_digest,
        checks_of_transfers.an_unfinished_upload_is_found_and_removed,
        checks_of_transfers.a_wrong_secret_is_refused,
    )
}


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `problem` is what the store cannot do, None where it can."""

    check: str
    meaning: str
    problem: str | None
    breaks: str | None  # what that would do to the user
    note: str | None  # what is no failure and still good to know
    seconds: float


def examine(store: Store, checks: Mapping[str, Check] | None = None) -> Iterator[Finding]:
    """Run each check (all by default) in a folder of its own, which is removed; yields each finding.

    Raises `StoreError` where nothing can be written at all.
    """
    store.check_reachable()
    for check in (CHECKS if checks is None else checks).values():
        yield _examined(store, check)


def _examined(store: Store, check: Check) -> Finding:
    folder = f"probes/{uuid.uuid4().hex}"
    begun = time.monotonic()
    problem = note = None
    try:
        note = check(store, folder)
    except UserError as error:
        problem = error.message
    except Exception as error:  # a server that answers what no library expects must not end the examination
        problem = f"its answer is not understood ({type(error).__name__}: {error})"
    try:
        store.delete_folder(folder)
    except UserError as error:
        problem = problem or f"it does not let go of what was tried: {error.message}"
    return Finding(
        check.name, check.meaning, problem, check.breaks if problem else None, note, time.monotonic() - begun
    )
