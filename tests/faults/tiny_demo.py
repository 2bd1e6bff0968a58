"""The demo with the specs of a folder instead of the shipped ones: python tiny_demo.py SPECS STORE [--keep]."""

import sys
from pathlib import Path

from rich.console import Console

from cluster.demo.plan import Plan
from cluster.demo.show import run_demo
from cluster.stopping import Stop, stop_with_parent

PARTS = {"data": "label", "sweep": "sweep", "endpoint": "endpoint", "evaluate": "evaluate"}

if __name__ == "__main__":
    stop_with_parent()
    plan = Plan(about="a test", **{part: Path(sys.argv[1]) / f"{name}.yaml" for part, name in PARTS.items()})
    try:
        run_demo(plan, sys.argv[2], Path(".equi"), keep="--keep" in sys.argv, console=Console(width=160))
    except Stop:
        sys.exit(130)
