"""The page 'fit a potential to your data' does what it says: its blocks are written and run in their order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fit-a-potential.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What the commands of the page print."""
    folder, commands = tmp_path_factory.mktemp("fit"), []
    for language, title, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            commands += text.strip().splitlines()
        elif title:
            (folder / title).write_text(text, encoding="utf-8")
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "EQUI_HOME": str(folder / "home"),
    }
    for name in ("EQUI_STORE", "EQUI_ADDRESS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.timeout(600)
def test_a_water_molecule_has_its_shape(output):
    """That of GFN2-xTB: 0.959 angstrom and 107.2 degrees."""
    length, angle = map(float, re.search(r"O-H ([\d.]+) angstrom, H-O-H ([\d.]+) degrees", output).groups())
    assert abs(length - 0.959) < 0.01
    assert abs(angle - 107.2) < 2


def test_molecular_dynamics_keeps_the_energy(output):
    assert abs(float(re.search(r"changed by (-?[\d.]+) meV", output).group(1))) < 1
