"""What a process pays that imports the package."""

import subprocess
import sys

# Triton comes with torch for CUDA alone, and whoever calls the kernel imports it.
PROGRAM = """
import importlib, pkgutil, sys
import equimodels

for module in pkgutil.walk_packages(equimodels.__path__, "equimodels."):
    if not module.name.endswith("_triton"):
        importlib.import_module(module.name)
print(*sorted({"torch._dynamo", "torch._inductor", "ray", "deepspeed", "scipy", "e3nn"} & set(sys.modules)))
"""


def test_no_module_imports_what_takes_seconds() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
