"""Numbers in the documentation are those of benchmarks/results; `python benchmarks/documented.py` puts them there."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def documented() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documented", ROOT / "benchmarks" / "documented.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_the_numbers_of_the_results(documented: ModuleType) -> None:
    assert documented.pages()
    for page in documented.pages():
        text = page.read_text(encoding="utf-8")
        assert documented.documented(text, ROOT / "benchmarks" / "results") == text, page


def test_a_result_becomes_a_table_with_where_it_was_taken(documented: ModuleType, tmp_path: Path) -> None:
    page = "a\n<!-- measured: training_* -->\nold\n<!-- end -->\nb\n"
    assert documented.documented(page, tmp_path) == page.replace("old", "Not measured yet.")
    content = {
        "benchmark": "training_memory",
        "machine": {"processor": "X", "cores": 2},
        "commit": "0123456789",
        "taken": "2026-11-21",
        "contended": True,
        "tables": {"Memory": [{"strategy": "ddp", "MiB": 1234.5}]},
        "goals": [{"what": "share", "found": 0.512, "wanted": 0.55, "less": True, "reached": True}],
        "notes": ["one run"],
    }
    (tmp_path / "training_memory.json").write_text(json.dumps(content))
    shown = documented.documented(page, tmp_path)
    for part in (
        "### Memory\n",
        "commit 0123456; X, 2 cores; other work ran beside it.",
        "| ddp | 1,234 |" if f"{1234.5:,.0f}" == "1,234" else "| ddp | 1,235 |",
        "| share | below 0.55 | 0.512 | yes |",
        "- one run",
    ):
        assert part in shown
    assert documented.documented(shown, tmp_path) == shown
