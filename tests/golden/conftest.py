"""`import torch_build` and `import small_runs` work in the tests beside this file."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "distributed")]  # pytest's importlib mode leaves the path alone
