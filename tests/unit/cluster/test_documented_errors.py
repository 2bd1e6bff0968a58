"""docs/reference/errors.md prints what the command line prints.

Each `$ equi ...` is run in a folder that holds the YAML files of the page. After an intended change of an error:
EQUI_REWRITE_DOCS=1 pytest tests/unit/cluster/test_documented_errors.py, then read the difference.
"""

import os
import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
FILE = re.compile(r'```yaml title="([^"]+)"\n(.*?)```', re.DOTALL)
EXAMPLE = re.compile(r"```console\n\$ equi ([^\n]+)\n(.*?)```", re.DOTALL)
EXAMPLES = EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "documented"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_the_page_shows_what_is_printed(equi, folder: Path, command: str, documented: str) -> None:
    _, out, err = equi(*shlex.split(command))
    printed = (out + err).replace(str(folder), "/folder")
    if os.environ.get("EQUI_REWRITE_DOCS"):
        text = PAGE.read_text(encoding="utf-8")
        old, new = f"$ equi {command}\n{documented}```", f"$ equi {command}\n{printed}```"
        PAGE.write_text(text.replace(old, new), encoding="utf-8")
        return
    assert printed == documented


def test_the_page_has_examples_and_all_but_one_are_errors(equi, folder: Path) -> None:
    codes = [equi(*shlex.split(command))[0] for command, _ in EXAMPLES]
    assert len(codes) >= 10
    assert sorted(codes) == [0] + [2] * (len(codes) - 1)
