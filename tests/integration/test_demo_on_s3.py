"""The whole way with the store on an S3 server in another process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.dataset.read import load_manifest
from cluster.registry import resolve
from cluster.runs import list_runs
from cluster.store import open_store

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]
TINY = Path(__file__).with_name("tiny")

SCRIPT = """
import sys
from pathlib import Path
from typing import Any
from rich.console import Console
from cluster.demo.plan import Plan
from cluster.demo.show import run_demo

if __name__ == "__main__":
    specs, uri = Path(sys.argv[1]), sys.argv[2]
    names = {"data": "label", "sweep": "sweep", "endpoint": "endpoint", "evaluate": "evaluate"}
    plan = Plan(about="a test", **{part: specs / f"{name}.yaml" for part, name in names.items()})
    run_demo(plan, uri, Path(".equi"), keep=False, console=Console(width=160))
"""


def test_the_demo_goes_the_whole_way_with_its_store_on_s3(s3_environment: Any, tmp_path: Path) -> None:
    uri = s3_environment.uri("demo")
    (tmp_path / "demo.py").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "demo.py", str(TINY), uri],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / ".equi" / "demo" / "summary.json").read_text(encoding="utf-8"))
    assert summary["dataset"] == "ethanol-tiny@1"
    assert summary["model"] == "tiny@1"
    assert summary["metrics"]["rotation_rel_error"] <= 1e-4
    assert summary["metrics"]["force_mean_abs_ev_per_ang"] > 0.1
    report = (tmp_path / ".equi" / "demo" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in report
    assert "http://" not in report.replace("http://www.w3.org", "").replace("http://127.0.0.1", "")
    store = open_store(uri)
    assert load_manifest(store, "ethanol-tiny@1").rows == 32
    assert str(resolve(store, "tiny@prod")) == "tiny@1"
    ended = {record.kind: record.status for record in list_runs(store)}
    assert ended == dict.fromkeys(("label", "sweep", "train", "endpoint", "evaluate"), "succeeded")
    # Nothing but the logs and tokens of this machine is outside the store.
    assert not (tmp_path / ".equi" / "store").exists()
