"""Machine code is refused on processors that would end the process at its first strange instruction."""

import platform

import pytest
import torch

from equimodels.errors import SettingError
from equimodels.integrations.processor import require_processor, this_processor

CASES = [  # made for, here, runs
    ("x86_64 AVX2", "x86_64 AVX2", True),
    ("x86_64 AVX2", "x86_64 AVX512", True),
    ("x86_64 DEFAULT", "x86_64 AVX2", True),
    ("x86_64 AVX512", "x86_64 AVX2", False),
    ("aarch64 DEFAULT", "x86_64 AVX512", False),
    ("aarch64 SVE256", "aarch64 SVE256", True),
    ("aarch64 SVE256", "aarch64 DEFAULT", False),
]


@pytest.mark.parametrize(("made_for", "here", "runs"), CASES)
def test_code_runs_where_all_its_instructions_are(made_for, here, runs, monkeypatch):
    machine, level = here.split()
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    assert this_processor() == here
    if runs:
        require_processor(made_for)
    else:
        with pytest.raises(SettingError, match=f"processor is '{here}'; allowed: {made_for}"):
            require_processor(made_for)
