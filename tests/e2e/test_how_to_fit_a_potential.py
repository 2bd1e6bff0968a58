"""The page 'fit a potential to your data' does what it says: its blocks are written and run in their order."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule
from tblite.ase import TBLite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fit-a-potential.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SECONDS = 600.0  # on two free cores; four starts of Ray among them


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, start: Any, stretch: float) -> str:
    """What the commands of the page print."""
    folder, commands = tmp_path_factory.mktemp("fit"), []
    for language, title, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            commands += text.strip().splitlines()
        elif title:
            (folder / title).write_text(text, encoding="utf-8")
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with start(["bash", "-e", "-c", "\n".join(commands)], folder, path) as running:
        assert running.exit_code(SECONDS * stretch) == 0, running.output[-6000:]
    return str(running.output)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text[-6000:]
    return float(found[1])


def test_forces_of_structures_that_training_has_not_seen_are_right(output: str) -> None:
    assert number(r"force_mae_relative +([\d.]+)", output) < 0.05


def test_a_water_molecule_has_its_shape(output: str) -> None:
    """That of GFN2-xTB: 0.959 angstrom and 107.2 degrees."""
    assert abs(number(r"O-H ([\d.]+) angstrom", output) - 0.959) < 0.01
    assert abs(number(r"H-O-H ([\d.]+) degrees", output) - 107.2) < 2


def test_molecular_dynamics_keeps_the_energy(output: str) -> None:
    assert abs(number(r"changed by (-?[\d.]+) meV", output)) < 1


def test_the_one_file_knows_the_energy_too(output: str) -> None:
    water = molecule("H2O")
    water.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert abs(number(r"energy (-[\d.]+) eV, largest force", output) - water.get_potential_energy()) < 0.02
