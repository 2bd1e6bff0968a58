"""The places between which a checkpoint can be interrupted; tests kill the process at each of them.

`reached` is an argument of `RunCheckpoints` and does nothing unless somebody gives another. In order of time, on every
rank unless said otherwise:
"""

from collections.abc import Callable
from typing import Literal, get_args

Stage = Literal[
    "before copy",  # save() was called
    "after copy",  # the training goes on from here; all that follows happens behind it
    "during write",  # half of a file is on the local disk
    "before upload",  # of a file, which is on the local disk
    "between files",  # the first of two files is on the store; the second one is written only where it is new
    "after upload",  # all files are on the store, the index is not
    "after index",  # this rank has done its part
    "before commit",  # rank 0: all ranks have done their part
    "after commit",  # rank 0: the checkpoint counts, nobody knows it yet
    "during retention",  # rank 0: COMMIT.json of a checkpoint that is not kept is gone, its files are not
    "during sweep",  # rank 0: one of the files that no commit names is gone
    "after sweep",  # rank 0
]
STAGES: tuple[Stage, ...] = get_args(Stage)
Reached = Callable[[Stage], None]


def go_on(stage: Stage) -> None:
    """Nothing happens."""
