"""One step of the demo: a spec, checked, recorded as a run and driven to its end in the open session."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.code_version import code_version
from cluster.context import RunContext
from cluster.driver import attempt, perform
from cluster.progress import Progress
from cluster.runs import create_run
from cluster.session import Session
from cluster.spec.load import LoadedSpec, load_spec
from cluster.spec.writing import spec_text
from cluster.stopping import StopSignals
from cluster.store import Store


@dataclass
class Stage:
    """Where the steps happen, and how long each took."""

    store: Store
    session: Session
    signals: StopSignals
    console: Console
    steps: int
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Say what begins, time it, say how long it took."""
        number = len(self.seconds) + 1
        self.console.print(f"\n[bold]{number}/{self.steps} {name}[/bold]  {what}", highlight=False)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
        self.console.print(f"[dim]{name}: {self.seconds[name]:.1f} s[/dim]", highlight=False)

    def run(self, path: Path, *overrides: str) -> tuple[str, dict[str, Any]]:
        """Run a spec as `equi submit` would, but in this process. Returns the run's id and outputs."""
        loaded = load_spec(path, overrides, store=self.store, capacity=self.session.capacity)
        with self.recorded(loaded) as context:
            outputs = perform(context.record, self.store, self.session, self.progress(context.record.id), self.signals)
            context.outputs = outputs
        return context.record.id, outputs

    @contextmanager
    def recorded(self, loaded: LoadedSpec) -> Iterator[Any]:
        """A run record around the block, which ends as the block ends."""
        name = getattr(loaded.spec, "name", loaded.kind)
        record = create_run(
            self.store, kind=loaded.kind, name=name, spec=spec_text(loaded.resolved()), code_version=code_version()
        )
        with attempt(self.store, record.id) as current:
            current.joined(self.session)
            yield current

    def progress(self, run_id: str) -> Progress:
        """Where a run of this stage shows itself."""
        return Progress(console=self.console, store=self.store, run_id=run_id)

    def context(self, run_id: str, workdir: Path) -> RunContext:
        """The context of a run that a step drives itself."""
        return RunContext(
            run_id=run_id,
            store=self.store,
            progress=self.progress(run_id),
            workdir=workdir,
            resume=False,
            stop_requested=lambda: self.signals.requested,
            session=self.session,
        )
