"""Presets: each is a valid model, a spec may change any setting of it, and what is written back means the same."""

import pytest
from pydantic import ValidationError

from equimodels.components import models
from equimodels.models.potential import Potential
from equimodels.presets import PRESETS
from equimodels.settings import settings
from jobs.spec.train import Model


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, sizes in PRESETS.items() for preset in sizes])
def test_every_preset_is_a_model_and_larger_than_the_one_before(name, preset):
    made = settings(models, name, Model(name=name, preset=preset).params)
    smaller = {"M": "S", "L": "M"}.get(preset)
    if smaller:
        assert settings(models, name, PRESETS[name][smaller]).channels < made.channels


def test_every_potential_has_presets():
    potentials = {name for name in models.names() if issubclass(models.find(name).target, Potential)}
    assert potentials == set(PRESETS)


def test_what_a_spec_says_itself_counts():
    model = Model.model_validate({"name": "gaunt_potential", "preset": "M", "params": {"channels": 48, "cutoff": 6.0}})
    assert model.params == {**PRESETS["gaunt_potential"]["M"], "channels": 48, "cutoff": 6.0}
    assert Model.model_validate(model.model_dump()) == model
    assert Model.model_validate({"name": "gaunt_potential"}).params == {}


@pytest.mark.parametrize(("name", "has"), [("gaunt_potential", "S, M, L"), ("diffusion_transformer", "none")])
def test_a_preset_that_there_is_not_is_refused_with_those_there_are(name, has):
    with pytest.raises(ValidationError, match=f"no preset 'XL'; it has {has}"):
        Model(name=name, preset="XL")
