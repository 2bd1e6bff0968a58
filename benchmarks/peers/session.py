"""A peer of another environment, asked from a benchmark: both run in turn, and one waits while the other computes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / "build" / "environments"  # of `make bench-peers`
PATIENCE = 30  # seconds to end in


class Peer:
    """A process with the packages of a peer, which runs the functions of a file: see `worker`.

    versions: of torch and the packages of the file. Raises RuntimeError, with what the process said, where it fails.
    """

    def __init__(self, python: Path | str, cases: Path, *, threads: int = 1) -> None:
        self.cases, self._said = cases, tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        # PYTHONPATH is of this environment, and would put its packages before the peer's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [str(python), str(FOLDER / "worker.py"), str(cases)],
            env={**environment, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            bufsize=1,
        )
        try:
            self.versions: dict[str, str] = self._answer()
        except RuntimeError:
            self.close()
            raise

    def ask(self, call: str, **arguments: Any) -> Any:
        """What the function of this name returns."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        except BrokenPipeError:
            raise RuntimeError(self._end()) from None
        return self._answer()

    def close(self) -> None:
        """End the process."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # still computing
            process.kill()
            process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._end())
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.cases.name}: {answer['error']}")
        return answer["value"]

    def _end(self) -> str:
        status = self._process.wait(PATIENCE)
        self._said.seek(0)
        return f"{self.cases.name} ended with {status}: {self._said.read()[-4000:]}"


def peer_of(environment: str, cases: str, *, threads: int = 1) -> Peer | None:
    """The peer of an environment of `make bench-peers`, or none where it has not been made.

    cases: a file beside this one.
    """
    folder = ENVIRONMENTS / environment
    if not (folder / "ready").exists():
        sys.stderr.write(f"{environment} is left out: `make bench-peers` makes its environment.\n")
        return None
    return Peer(folder / "bin" / "python", FOLDER / cases, threads=threads)
