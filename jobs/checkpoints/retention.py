"""Which checkpoints are kept, and which files no kept one needs. Pure functions: they decide and do nothing."""

from collections.abc import Collection, Iterable, Mapping

from jobs.checkpoints.layout import parsed
from jobs.spec.strategy import Checkpoint


def kept(steps: Mapping[int, bool], policy: Checkpoint) -> set[int]:
    """Of the committed steps, each with whether it was the best so far, those that are kept.

    The newest `keep_last`, the newest `keep_best` of the best (each was better than all before it), and every step that
    `keep_every` divides.
    """
    ordered = sorted(steps)
    best = [step for step in ordered if steps[step]]
    periodic = [step for step in ordered if policy.keep_every and step % policy.keep_every == 0]
    return {*ordered[-policy.keep_last :], *best[len(best) - min(policy.keep_best, len(best)) :], *periodic}


def orphans(names: Iterable[str], named: Collection[str], *, attempt: int, committed: int) -> list[str]:
    """Files that no kept checkpoint names and nobody is writing, as seen by `attempt`, which has come to `committed`.

    Files of later attempts are theirs; own files of later steps are being written. What has no name of ours is left.
    """
    doomed = []
    for name in names:
        what = parsed(name)
        if what is None or what.attempt is None or name in named or what.attempt > attempt:
            continue
        if what.attempt == attempt and what.step > committed:
            continue
        doomed.append(name)
    return doomed
