"""Charge and spin of the structures of a table.

Shapes: B rows.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NEUTRAL_SINGLET = (0.0, 1)  # charge, e; multiplicity, 2 S + 1: of rows that say nothing or null


def charges_and_spins(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Charges (B,), in elementary charges, and multiplicities (B,); None where the table has neither column."""
    if not {"charge", "spin"} & set(table.column_names):
        return None
    charge, spin = (
        table[name].fill_null(usual).to_numpy() if name in table.column_names else np.full(table.num_rows, usual)
        for name, usual in zip(("charge", "spin"), NEUTRAL_SINGLET, strict=True)
    )
    return charge, spin
