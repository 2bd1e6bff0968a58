"""The table of settings in docs/reference/train.md is the schema of the spec.

After an intended change: EQUI_REWRITE_DOCS=1 pytest tests/unit/cluster/test_documented_settings.py
"""

import os
import re
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field
from ruamel.yaml import YAML

from cluster.front_door import KINDS
from cluster.spec.reference import reference
from jobs.spec.train import TrainSpec
from jobs.strategy.refusals import refusals

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "reference" / "train.md"
BLOCK = re.compile(r"(<!-- settings: equi schema train --markdown -->\n)(.*)(<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r'```yaml title="train.yaml"\n(.*?)```', re.DOTALL)


class Inner(BaseModel):
    """Settings inside."""

    size: int = Field(default=3, ge=1, description="how many, like a|b or <n>")


class Outer(BaseModel):
    """Settings."""

    name: str
    inner: Inner = Field(default_factory=Inner)
    either: int | Inner = 2
    chosen: tuple[Literal["a", "b"], ...] = ()


def test_a_row_says_what_a_setting_may_be_and_what_it_is_otherwise() -> None:
    assert reference(Outer).splitlines()[2:] == [
        "| `name` | text | required |  |",
        "| `inner.size` | a whole number, at least 1 | `3` | how many, like a\\|b or \\<n> |",
        "| `either` | a whole number or a mapping with size | `2` |  |",
        "| `either.size` | a whole number, at least 1 | `3` | how many, like a\\|b or \\<n> |",
        "| `chosen` | a list of a, b | `[]` |  |",
    ]


def test_the_page_has_all_settings_of_a_training_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = reference(KINDS["train"].model())
    if os.environ.get("EQUI_REWRITE_DOCS"):
        PAGE.write_text(BLOCK.sub(lambda found: found[1] + table + found[3], text), encoding="utf-8")
        return
    found = BLOCK.search(text)
    assert found is not None
    assert found[2] == table


@pytest.mark.parametrize("page", ["reference/train.md", "how-to/train-on-many-gpus.md"])
def test_the_example_of_a_page_is_a_valid_spec_that_no_strategy_refuses(page: str) -> None:
    found = EXAMPLE.search((DOCS / page).read_text(encoding="utf-8"))
    assert found is not None
    spec = TrainSpec.model_validate(YAML(typ="safe").load(found[1]))
    assert refusals(spec, conservative=True, cuda=True) == []
