"""The example of the README is the file beside it, which the tests run after the demo."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_example_as_it_is() -> None:
    example = (ROOT / "docs" / "examples" / "energy_of_ethanol.py").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    lines = [line for line in shown[1].splitlines() if line]
    there = [
        line.removesuffix("  # noqa: T201") for line in example.splitlines() if line and not line.startswith('"""')
    ]
    assert lines == there
