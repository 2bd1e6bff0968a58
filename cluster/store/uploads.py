"""Writes that were begun and never finished: a killed process leaves its parts, which cost money and show nowhere."""

from datetime import UTC, datetime, timedelta

from cluster.store.interface import Store, Unfinished

OLD = timedelta(days=1)  # no upload of ours takes so long; a younger one may be somebody's work


def clean_uploads(store: Store, older_than: timedelta = OLD, *, now: datetime | None = None) -> list[Unfinished]:
    """Remove what was begun below the store's prefix more than `older_than` ago; returns what was removed.

    now: the time to count back from; default the clock's. Objects and other prefixes are never touched.
    """
    before = (now or datetime.now(UTC)) - older_than
    old = [upload for upload in store.unfinished() if upload.begun < before]
    for upload in old:
        store.abandon(upload)
    return old
