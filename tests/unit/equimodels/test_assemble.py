"""Descriptions become models, models become folders, and both refuse what does not fit."""

import json
import pickle

import numpy as np
import pytest
import torch

from equimodels.assemble import ModelDescription, assemble, settings
from equimodels.checkpoint import CheckpointError, load_model, save_model
from equimodels.components import radial_bases
from equimodels.errors import SettingError
from equimodels.models.graph import AtomGraph, Structure

# By import path, so that only this model has to be importable.
DESCRIPTION = ModelDescription(
    name="equimodels.models.gaunt_potential:GauntPotential",
    params={"channels": 4, "lmax": 1, "radial_hidden": 8},
    embedding={"radial": {"name": "gaussian", "params": {"number": 5}}},
    facts={"species": [1], "reference_energies": [-13.6], "force_rms": 1.1, "mean_neighbours": 2.0},
)


def graph():
    x = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1.5, 0]])
    return AtomGraph.collate([Structure.of(np.ones(3), x, 5.0)])


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = assemble(DESCRIPTION).eval()
    save_model(tmp_path / "model", model, DESCRIPTION, {"note": "kept"})
    return model, tmp_path / "model"


def test_a_description_survives_json():
    assert ModelDescription.from_json(json.loads(json.dumps(DESCRIPTION.to_json()))) == DESCRIPTION


def test_a_description_with_a_wrong_key_is_refused():
    with pytest.raises(SettingError, match="parms"):
        ModelDescription.from_json({"name": "x", "parms": {}, "embedding": {}, "facts": {}})


def test_the_same_seed_assembles_the_same_model():
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(assemble(DESCRIPTION).state_dict())
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_an_unknown_setting_is_refused_with_the_nearest_known():
    with pytest.raises(SettingError, match=r"radial basis 'bessel'.*cutoff, number, trainable.*mean 'number'"):
        settings(radial_bases, "bessel", {"nmber": 8})


@pytest.mark.parametrize("value", ["8", 8.0, True, None])
def test_a_setting_of_the_wrong_type_is_refused(value):
    with pytest.raises(SettingError, match="type int"):
        settings(radial_bases, "bessel", {"number": value})


def test_a_whole_number_does_for_a_float_and_null_where_it_is_allowed():
    assert settings(radial_bases, "bessel", {"cutoff": 4}).cutoff == 4
    assert settings(radial_bases, "bessel", {"cutoff": None}).cutoff is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_model_is_the_saved_one_bit_by_bit(tmp_path, dtype):
    torch.manual_seed(0)
    model = assemble(DESCRIPTION).to(dtype).eval()
    save_model(tmp_path, model, DESCRIPTION)
    loaded = load_model(tmp_path)
    assert not loaded.training
    for found, expected in zip(loaded(graph()), model(graph()), strict=True):
        assert torch.equal(found, expected)


def test_the_manifest_holds_what_it_takes_to_load_and_what_was_added(saved):
    manifest = json.loads((saved[1] / "model.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["description"] == DESCRIPTION.to_json()
    assert manifest["dtype"] == "float32"
    assert manifest["note"] == "kept"
    assert sorted(path.name for path in saved[1].iterdir()) == ["model.json", "weights.safetensors"]


def test_loading_leaves_the_random_stream_alone(saved):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_model(saved[1])
    assert torch.equal(torch.rand(1), expected)


def test_weights_that_were_changed_are_refused(saved):
    path = saved[1] / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256"):
        load_model(saved[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_folder_with_a_file_missing_is_refused(saved, name):
    (saved[1] / name).unlink()
    with pytest.raises(CheckpointError, match=r"model"):
        load_model(saved[1])


def test_a_format_of_the_future_is_refused(saved):
    path = saved[1] / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(CheckpointError, match="format_version 2; allowed: 1"):
        load_model(saved[1])


def test_weights_of_another_model_are_refused(saved):
    path = saved[1] / "model.json"
    manifest = json.loads(path.read_text())
    manifest["description"]["params"]["channels"] = 5
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="size mismatch"):
        load_model(saved[1])


def test_a_model_of_mixed_dtypes_is_not_saved(tmp_path):
    model = assemble(DESCRIPTION)
    model.embed.data = model.embed.data.double()
    with pytest.raises(ValueError, match=r"float32.*float64"):
        save_model(tmp_path, model, DESCRIPTION)


def test_extra_facts_may_not_hide_those_of_the_manifest(tmp_path):
    with pytest.raises(ValueError, match="sha256"):
        save_model(tmp_path, assemble(DESCRIPTION), DESCRIPTION, {"sha256": "0"})
    assert not (tmp_path / "model.json").exists()


def test_the_checkpoint_error_survives_a_process_boundary():
    assert str(pickle.loads(pickle.dumps(CheckpointError("what was wrong")))) == "what was wrong"
