"""Every metric of the table, emitted in a Ray worker, is exported by the node under the names that the table says."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

# In a process of its own: it opens a Ray session. Ray exports every few seconds; 9 s were seen, 60 s are allowed.
PROGRAM = """
import re, sys, time, urllib.request
from pathlib import Path
from cluster.metrics import METRICS, Meter
from cluster.session import open_session

with open_session(None, home=Path(sys.argv[1]), cpus=2):
    import ray

    @ray.remote
    class Worker:
        def emit(self):
            labels = dict(run_id="r1", endpoint="e", model="m@1", metric="loss", outcome="finished", status="200")
            meter = Meter(**labels, what="atoms", rank="0")
            for row in METRICS.values():
                {"counter": meter.add, "gauge": meter.set, "histogram": meter.observe}[row.kind](row.name, 1.0)

    worker = Worker.remote()
    ray.get(worker.emit.remote())
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    promised = {name for row in METRICS.values() for name in row.series}
    exported, until = set(), time.monotonic() + 60
    while not promised <= exported and time.monotonic() < until:
        time.sleep(1)
        exported = set(re.findall(r"^(ray_equi_\\w+)", direct.open(url, timeout=10).read().decode(), re.M))
    sys.stdout.write(f"missing {sorted(promised - exported)} unexpected {sorted(exported - promised)}\\n")
"""


def test_every_series_of_the_table_is_exported_and_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "missing [] unexpected []"
