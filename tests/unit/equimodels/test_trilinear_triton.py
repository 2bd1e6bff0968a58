"""The fused kernel, in Triton's interpreter on the CPU: what it computes, not how fast, against the form in torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("fused_kernel.py")


@pytest.mark.parametrize("case", ["forms", "tables", "derivatives", "product", "refused"])
def test_the_kernel_in_the_interpreter(case):
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(CHECK), case], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.strip() == f"{case}: ok"
