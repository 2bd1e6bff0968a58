"""Sizes of models by name: settings to begin with, any of which a spec may change. No torch: specs read them.

Of the potentials: S for a laptop and thousands of steps a minute, M for a data set of one kind of molecule or crystal,
L for many elements and GPUs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Size = Mapping[str, Mapping[str, Any]]

PRESETS: Mapping[str, Size] = MappingProxyType(
    {
        "gaunt_potential": {
            "S": {"lmax": 1, "channels": 16, "layers": 2, "radial_hidden": 16},
            "M": {"lmax": 3, "channels": 32, "layers": 2, "radial_hidden": 32},
            "L": {"lmax": 3, "channels": 128, "layers": 3, "radial_hidden": 64},
        },
        "attention_potential": {
            "S": {"lmax": 1, "channels": 16, "heads": 2, "layers": 2, "radial_hidden": 16},
            "M": {"lmax": 2, "channels": 32, "heads": 4, "layers": 3, "radial_hidden": 32},
            "L": {"lmax": 3, "channels": 128, "heads": 8, "layers": 4, "radial_hidden": 64},
        },
        "invariant_potential": {
            "S": {"channels": 32, "layers": 2, "radial_hidden": 16},
            "M": {"channels": 64, "layers": 3, "radial_hidden": 32},
            "L": {"channels": 256, "layers": 6, "radial_hidden": 64},
        },
    }
)
