"""Names of everything below `runs/<id>/checkpoints/`.

ATTEMPT.json                              which attempt at the run may write
<step>/a<attempt>-<rank>.safetensors      what a rank holds of the training state
<step>/a<attempt>-<rank>-best.safetensors the same of the best weights, which rarely change
<step>/a<attempt>-<rank>.json             the index of these files
<step>/COMMIT.json                        written last: names all files of a checkpoint, which counts from then on
"""

import re
from dataclasses import dataclass

ATTEMPT, COMMIT = "ATTEMPT.json", "COMMIT.json"
_NAME = re.compile(r"(\d{8,})/(?:(COMMIT\.json)|a(\d{4,})-(\d{5,})(-best)?\.(?:safetensors|json))")


def home(run_id: str) -> str:
    """The folder of a run's checkpoints."""
    return f"runs/{run_id}/checkpoints"


def folder(step: int) -> str:
    """The folder of a step, below the home."""
    return f"{step:08d}"


def commit_name(step: int) -> str:
    """COMMIT.json of a step, below the home."""
    return f"{folder(step)}/{COMMIT}"


def index_name(step: int, attempt: int, rank: int) -> str:
    """A rank's index."""
    return f"{folder(step)}/a{attempt:04d}-{rank:05d}.json"


def file_name(step: int, attempt: int, rank: int, *, best: bool = False) -> str:
    """A rank's part of the training state, or of the best weights."""
    return f"{folder(step)}/a{attempt:04d}-{rank:05d}{'-best' if best else ''}.safetensors"


@dataclass(frozen=True)
class Name:
    """What a name below the home says. attempt: None for a COMMIT.json."""

    step: int
    attempt: int | None


def parsed(name: str) -> Name | None:
    """The parts of a name; None where it is not one of ours."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return Name(int(found[1]), None if found[2] else int(found[3]))
