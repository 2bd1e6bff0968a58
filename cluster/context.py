"""What a runner is handed: where it runs, where it writes, whom it tells, and when it should stop."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.progress import Progress
    from cluster.session import Session
    from cluster.store import Store


@dataclass(frozen=True)
class RunContext:
    """The surroundings of one attempt at one run. `run(spec, context) -> dict` is all a runner is."""

    run_id: str
    store: "Store"
    progress: "Progress"
    workdir: Path  # scratch of this attempt, removed afterwards; what must stay goes to the store
    resume: bool  # an earlier attempt may have left checkpoints under runs/<run_id>/
    stop_requested: Callable[[], bool]  # poll between steps; SIGTERM also raises Stop in the main thread
    session: "Session"

    def key(self, *parts: str) -> str:
        """A key of this run on the store: `context.key("checkpoints", "200")`."""
        return "/".join(("runs", self.run_id, *parts))
