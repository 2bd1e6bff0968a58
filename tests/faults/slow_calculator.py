"""A calculator for tests that count: slow, and each calculation leaves a line in a file, whichever process does it."""

import os
import time
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Slow(Calculator):
    """The distance of two atoms as an energy. log: a file; seconds: how long a calculation takes."""

    implemented_properties = ("energy", "forces")

    def __init__(self, log: str, seconds: float) -> None:
        super().__init__()
        self._log, self._seconds = log, seconds

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        distance = float(self.atoms.get_distance(0, 1))
        time.sleep(self._seconds)
        # One write of a short line, appended: lines of several processes do not mix.
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{distance:.6f}\n".encode())
        os.close(log)
        self.results = {"energy": distance, "forces": np.zeros((2, 3))}
