"""What the potentials of these tests are built with, beside their settings."""

EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 6}}}
FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}
