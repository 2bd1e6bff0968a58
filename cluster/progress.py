"""How a run tells how far it is: a bar on a terminal, plain lines in a log, progress.json on the store.

One task at a time is drawn; the store gets the newest state of each task, at most once a second:
{"updated": s since epoch, "tasks": [{"title", "completed", "total", "unit", "info", "rate", "elapsed_s", "left_s"}]}
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from cluster.store import Store

LINE_EVERY_S, LONGEST_LINE_S = 2.0, 60.0  # a log gets a line in each hundredth of the time so far, within these
WRITE_EVERY_S = 1.0
SEPARATOR = " · "
TASKS_KEPT = 20  # in progress.json; a sweep may open hundreds


class Task:
    """One counted piece of work. Safe to advance from several threads."""

    def __init__(
        self, title: str, total: float | None, unit: str, changed: Callable[["Task"], None], *, rated: bool = False
    ) -> None:
        self.title, self.total, self.unit, self.rated = title, total, unit, rated
        self.completed: float = 0
        self.info: dict[str, Any] = {}
        self.ended = False
        self._changed = changed
        self._started = time.monotonic()
        self._first: tuple[float, float] | None = None  # when something was first done, and how much
        self._elapsed: float | None = None
        self._told_left: float | None = None
        self._lock = threading.Lock()

    def advance(self, n: float = 1, **info: Any) -> None:
        """n more units are done; info: what to show beside the bar, numbers or short text."""
        with self._lock:
            self.completed += n
            self.info.update(info)
            self._notice()
        self._changed(self)

    def update(self, *, completed: float | None = None, left_s: float | None = None, **info: Any) -> None:
        """Set what is known now: units done, seconds left by somebody's own reckoning, what to show beside the bar."""
        with self._lock:
            self.completed = self.completed if completed is None else completed
            self._told_left = left_s
            self.info.update(info)
        self._changed(self)

    def expect(self, total: float) -> None:
        """How many units there are, where that was not known at the start."""
        self.total = total
        self._changed(self)

    def end(self) -> None:
        """No more will come; the clock of the task stops."""
        self._elapsed, self.ended = time.monotonic() - self._started, True
        self._changed(self)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the task began, until it ended."""
        return self._elapsed if self._elapsed is not None else time.monotonic() - self._started

    @property
    def left_s(self) -> float | None:
        """Seconds left at the mean rate since something was first done; None before that or without a total.

        What came before (processes that start, work found done on resume) says nothing about the rate.
        """
        if self._told_left is not None:
            return self._told_left
        rate = self.rate
        return None if not rate or not self.total else max(0.0, self.total - self.completed) / rate

    @property
    def rate(self) -> float | None:
        """Units a second, the mean since something was first done; None before there are two points."""
        if self._first is None or self.completed <= self._first[1]:
            return None
        since, begun = self._first
        until = time.monotonic() if self._elapsed is None else self._started + self._elapsed
        return (self.completed - begun) / (until - since) if until > since else None

    def _notice(self) -> None:
        if self._first is None and self.completed > 0:
            self._first = (time.monotonic(), self.completed)

    def to_json(self) -> dict[str, Any]:
        """The state as it stands in progress.json."""
        with self._lock:
            info = dict(self.info)
        return {
            "title": self.title,
            "completed": self.completed,
            "total": self.total,
            "unit": self.unit,
            "info": info,
            "rate": self.rate if self.rated else None,
            "elapsed_s": round(self.elapsed_s, 3),
            "left_s": None if self.ended else _rounded(self.left_s),
            "ended": self.ended,
        }


def line_of(task: Mapping[str, Any], width: int | None = None) -> str:
    """One task of progress.json in one line of text, of at most `width` characters where one is given.

    What is beside the bar stands in the order of its importance: the last of it is left out first.
    """
    total = "" if task["total"] is None else f"/{task['total']:g}"
    first = [f"{task['title']}: {task['completed']:g}{total} {task['unit']}".rstrip()]
    last = []
    if task["left_s"] is not None:
        last = [f"{duration(task['left_s'])} left"]
    elif task["ended"]:
        last = [f"{task['elapsed_s']:.1f} s"]
    return fitted(first, _beside(task), last, width)


def fitted(first: list[str], middle: list[str], last: list[str], width: int | None) -> str:
    """The parts in one line; too long a line loses the end of the middle, then `last`, then its own end."""
    for kept in range(len(middle), -1, -1):
        line = SEPARATOR.join([*first, *middle[:kept], *last])
        if width is None or len(line) <= width:
            return line
    return SEPARATOR.join(first)[:width]


def duration(seconds: float) -> str:
    """How long, in the one or two units that matter."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _beside(task: Mapping[str, Any]) -> list[str]:
    """The rate, then whatever was told; what is empty at the moment is not shown."""
    return [*_speed(task), *(f"{name} {_shown(value)}" for name, value in task["info"].items() if value != "")]


def _speed(task: Mapping[str, Any]) -> list[str]:
    rate = task.get("rate")  # older files have none
    return [] if rate is None else [f"{rate:.4g} {task['unit']}/s"]


class Progress:
    """Tells the terminal or log, and the store when one is given."""

    def __init__(
        self, *, console: Console | None = None, store: "Store | None" = None, run_id: str | None = None
    ) -> None:
        self._console = console or Console()
        self._store, self._run_id = store, run_id
        self._tasks: list[Task] = []
        self._written = float("-inf")
        self._lock = threading.Lock()

    @property
    def console(self) -> Console:
        """Where things are shown."""
        return self._console

    def say(self, text: str) -> None:
        """One line for people."""
        self._console.print(text, highlight=False, markup=False)  # a bracket in an error is no tag

    def show(self, renderable: RenderableType) -> None:
        """A table, a panel: anything rich can draw."""
        self._console.print(renderable)

    @contextlib.contextmanager
    def task(self, title: str, total: float | None = None, unit: str = "", *, rated: bool = False) -> Iterator[Task]:
        """A piece of work of `total` units (None: unknown), drawn until the block ends. rated: tell units a second."""
        draw: Callable[[Task], None] = _Lines(self._console)
        with contextlib.ExitStack() as stack:
            if self._console.is_terminal:
                bar = _bar_width(self._console.width)
                draw = _Bar(stack.enter_context(_bars(self._console, bar)), title, total, self._console, bar)

            def changed(task: Task) -> None:
                draw(task)
                self._write(force=task.ended)

            task = Task(title, total, unit, changed, rated=rated)
            with self._lock:
                self._tasks = [*self._tasks, task][-TASKS_KEPT:]
            self._write(force=True)
            try:
                yield task
            finally:
                task.end()

    def _write(self, *, force: bool) -> None:
        if self._store is None or self._run_id is None:
            return
        with self._lock:
            now = time.monotonic()
            if not force and now - self._written < WRITE_EVERY_S:
                return
            self._written = now
            state = {"updated": time.time(), "tasks": [task.to_json() for task in self._tasks]}
            # Under the lock, so that an older state never overwrites a newer one.
            self._store.write(f"runs/{self._run_id}/progress.json", json.dumps(state, default=str).encode())


class _Lines:
    """For a log: a line when the task is done, and now and then before that, seldom where it takes days."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, time.monotonic()

    def __call__(self, task: Task) -> None:
        pause = min(max(LINE_EVERY_S, task.elapsed_s / 100), LONGEST_LINE_S)
        if task.ended or time.monotonic() - self._last >= pause:
            self._last = time.monotonic()
            self._console.print(line_of(task.to_json()), highlight=False, markup=False, soft_wrap=True)


class _Bar:
    """For a terminal."""

    def __init__(self, bars: Bars, title: str, total: float | None, console: Console, bar: int) -> None:
        self._bars, self._console = bars, console
        self._around = len(title) + 1 + (bar + 1 if bar else 0)
        self._id: TaskID = bars.add_task(title, total=total, info="")

    def __call__(self, task: Task) -> None:
        state = task.to_json()
        total = "" if task.total is None else f"/{task.total:g}"
        count = f"{task.completed:g}{total} {task.unit}".rstrip()
        last = [f"{task.elapsed_s:.0f} s"] if task.ended else []
        if state["left_s"] is not None:
            last = [f"{duration(state['left_s'])} left"]
        # The console is asked each time: a terminal can be made narrower while we draw.
        info = fitted([count], _beside(state), last, max(1, self._console.width - self._around))
        self._bars.update(self._id, completed=task.completed, total=task.total, info=info)


def _bars(console: Console, bar: int) -> Bars:
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=bar), TextColumn("{task.fields[info]}")]
    return Bars(*(columns if bar else columns[::2]), console=console, refresh_per_second=4)


def _bar_width(width: int) -> int:
    """Of the bar itself: the figures beside it say more."""
    return 30 if width >= 120 else 12 if width >= 70 else 0


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
