"""The repulsion of atomic nuclei at short range, where no training data is: a simulation must not fall through it.

Shapes: N atoms, E directed edges, S species. Lengths in angstrom, energies in eV. Sources: Ziegler, Biersack and
Littmark 1985 for the potential; Cordero et al. 2008 (doi 10.1039/b801115j) for the covalent radii at which it ends.
"""

import torch
from torch import Tensor

from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.errors import require
from equimodels.ops.exact import ExactTables

COULOMB = 14.399645  # e^2 / (4 pi epsilon_0), eV angstrom
LENGTH = 0.46850  # angstrom
TERMS = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))  # of the screening
# Angstrom, hydrogen to curium.
COVALENT_RADII = (
    *(0.31, 0.28),
    *(1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58),
    *(1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06),
    *(2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16),
    *(2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40),
    *(2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87),
    *(1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50),
    *(2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
)


class Repulsion(ExactTables):
    """V(r) = COULOMB Z1 Z2 / r * screening(r / a) * cutoff(r), a = LENGTH / (Z1^0.23 + Z2^0.23), eV.

    It ends, with two continuous derivatives, where the two atoms would be bound: at the sum of their covalent radii, or
    at `cutoff` where that is shorter. So it adds nothing to what a potential is fitted to. species: atomic numbers.
    Raises SettingError for one above 96.
    """

    number: Tensor
    inverse_length: Tensor
    radius: Tensor

    def __init__(self, species: list[int], cutoff: float) -> None:
        super().__init__()
        known = len(COVALENT_RADII)
        require(max(species) <= known, "species", species, f"atomic numbers to {known}, whose radii are known")
        self.cutoff = cutoff
        number = torch.tensor(species, dtype=torch.float64)
        self.add_table("number", number)
        self.add_table("inverse_length", number**0.23 / LENGTH)
        self.add_table("radius", torch.tensor([COVALENT_RADII[z - 1] for z in species], dtype=torch.float64))

    def forward(self, kind: Tensor, edges: Tensor, distance: Tensor) -> Tensor:
        """kind: (N,) index among the species; edges: (2, E), each pair in both directions; distance: (E,).

        Returns (N,) energies: each atom has half of those of its pairs.
        """
        first, second = kind.index_select(0, edges[0]), kind.index_select(0, edges[1])
        scaled = distance * (self.inverse_length[first] + self.inverse_length[second])
        screening = sum(share * torch.exp(-rate * scaled) for share, rate in TERMS)
        ends = (self.radius[first] + self.radius[second]).clamp(max=self.cutoff)
        pair = COULOMB * self.number[first] * self.number[second] / distance * screening
        pair = pair * polynomial_cutoff(distance / ends, 1.0)
        return pair.new_zeros(kind.shape[0]).index_add(0, edges[1], pair / 2)
