"""The registries of the library: one per kind of component a spec can name."""

from typing import Any

from torch import nn

from equimodels.registry import Registry

models: Registry[nn.Module] = Registry(
    "model",
    (
        "equimodels.models.gaunt_potential",
        "equimodels.models.attention_potential",
        "equimodels.models.invariant_potential",
        "equimodels.models.diffusion_transformer",
    ),
)
radial_bases: Registry[nn.Module] = Registry(
    "radial basis",
    ("equimodels.embeddings.bessel", "equimodels.embeddings.gaussian", "equimodels.embeddings.chebyshev"),
)
objectives: Registry[Any] = Registry(
    "objective", ("equimodels.objectives.energy_force", "equimodels.objectives.flow_matching")
)
