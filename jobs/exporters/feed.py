"""Feeds exporters from a thread of their own. One that fails is switched off with one word of it; training goes on."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jobs.exporters.catalogue import start
from jobs.exporters.exporter import About, Exporter
from jobs.recording.behind import Behind

LAST_WORDS_S = 30.0


class Feed:
    """The exporters of a run. failed: called with the name of an exporter and why it was switched off."""

    def __init__(
        self,
        names: Sequence[str],
        about: About,
        failed: Callable[[str, str], None],
        open_exporter: Callable[[str, About], Exporter] = start,
    ) -> None:
        self._about, self._failed, self._open = about, failed, open_exporter
        self._live: dict[str, Exporter | None] = dict.fromkeys(names)  # None: not begun yet
        self._behind, self._number = Behind(), 0

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Hand on these rows; returns at once."""
        for name in list(self._live):
            self._put(name, partial(self._hand, name, list(rows)))

    def end(self) -> None:
        """Let every exporter finish; half a minute for all of them."""
        for name in list(self._live):
            self._put(name, partial(self._end, name))
        self._behind.close(LAST_WORDS_S)

    def _put(self, name: str, job: Callable[[], None]) -> None:
        self._number += 1
        self._behind.put(f"{name}-{self._number}", partial(self._guarded, name, job))

    def _guarded(self, name: str, job: Callable[[], None]) -> None:
        if name not in self._live:
            return
        try:
            job()
        except Exception as error:  # of a program that is not ours: anything
            del self._live[name]
            self._failed(name, f"{type(error).__name__}: {error}")

    def _hand(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._begun(name).steps(rows)

    def _end(self, name: str) -> None:
        exporter = self._live[name]
        if exporter is not None:
            exporter.end()

    def _begun(self, name: str) -> Exporter:
        exporter = self._live[name]
        if exporter is None:
            exporter = self._live[name] = self._open(name, self._about)
        return exporter
