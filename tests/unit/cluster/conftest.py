"""The command line in this process: `equi("models", "--json")` gives exit code, standard output and standard error."""

from collections.abc import Callable

import pytest

from cluster import cli

Equi = Callable[..., tuple[object, str, str]]


@pytest.fixture
def equi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Equi:
    monkeypatch.delenv("EQUI_STORE", raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run
