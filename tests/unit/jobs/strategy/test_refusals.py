"""What cannot work is refused with the reason and the nearest that works."""

import pytest

from jobs.spec.train import TrainSpec
from jobs.strategy.refusals import is_conservative, refusals


def spec(strategy, **parts):
    given = {
        "spec_version": 1,
        "kind": "train",
        "name": "tiny",
        "data": {"uri": "datasets/none@1", "batch": {"samples": 4}},
        "model": {"name": "none"},
        "objective": {"name": "none"},
        "strategy": strategy,
        "resources": {"workers": 1},
    }
    return TrainSpec.model_validate(given | parts)


ZERO3 = {"kind": "deepspeed", "zero_stage": 3}
MUON = {"optimizer": {"name": "muon"}}
FORCES = [
    ({**ZERO3, "force_gradient": "two_phase"}, "strategy.force_gradient", "fsdp"),
    ({"kind": "fsdp", "units": "blocks"}, "strategy.units", "two_phase"),
    ({"kind": "ddp", "compile": True}, "strategy.compile", "compile: false"),
    ({"kind": "ddp", "compile": True, "force_gradient": "two_phase"}, "strategy.compile", "compile: false"),
]
ANY = [
    ({"kind": "ddp", "units": "blocks"}, {}, "strategy.units", "kind: fsdp"),
    ({"kind": "ddp", "zero_stage": 3}, {}, "strategy.zero_stage", "kind: deepspeed"),
    ({"kind": "fsdp", "zero_stage": 1}, {}, "strategy.zero_stage", "leave it out"),
    ({"kind": "ddp", "offload": "cpu"}, {}, "strategy.offload", "kind: deepspeed"),
    ({"zero_stage": 0, "offload": "cpu"}, {}, "strategy.offload", "zero_stage: 1"),
    ({"zero_stage": 1}, MUON, "optimizer.name", "kind: ddp"),
    ({"kind": "fsdp"}, MUON, "optimizer.name", "adamw"),
    ({"kind": "ddp", "deepspeed": {"wandb": {}}}, {}, "strategy.deepspeed", "kind: deepspeed"),
    ({"deepspeed": {"gradient_clipping": 1.0}}, {}, "strategy.deepspeed.gradient_clipping", "set strategy.gradient"),
    (
        {"deepspeed": {"zero_optimization": {"offload_optimizer": {"nvme_path": "scratch"}}}},
        {},
        "strategy.deepspeed.zero_optimization.offload_optimizer.nvme_path",
        "leave it out",
    ),
    ({"deepspeed": {"steps_per_print": 1}}, {}, "strategy.deepspeed.steps_per_print", "leave it out"),
]


def test_a_worker_computes_on_one_gpu_at_most():
    with pytest.raises(ValueError, match="gpus_per_worker"):
        spec({}, resources={"workers": 1, "gpus_per_worker": 2})


@pytest.mark.parametrize(("strategy", "path", "nearest"), FORCES)
def test_what_forces_forbid(strategy, path, nearest):
    (found,) = refusals(spec(strategy), conservative=True, cuda=False)
    assert found.path == path
    assert nearest in found.nearest


@pytest.mark.parametrize(("strategy", "parts", "path", "nearest"), ANY)
def test_what_cannot_work_with_any_model(strategy, parts, path, nearest):
    (found,) = refusals(spec(strategy, **parts), conservative=False, cuda=True)
    assert found.path == path
    assert nearest in found.nearest
    assert str(found) == f"{found.path}: {found.why}; {found.nearest}"


def test_two_phases_need_forces():
    wanted = spec({"kind": "ddp", "force_gradient": "two_phase"})
    assert [found.path for found in refusals(wanted, conservative=False, cuda=False)] == ["strategy.force_gradient"]
    assert refusals(wanted, conservative=True, cuda=False) == []


def test_without_gpus_nothing_is_offloaded():
    (found,) = refusals(spec({"offload": "cpu"}), conservative=False, cuda=False)
    assert "main memory" in found.why
    assert refusals(spec({"offload": "cpu"}), conservative=False, cuda=True) == []


@pytest.mark.parametrize("strategy", [{}, ZERO3, {"kind": "fsdp"}, {"kind": "ddp", "tf32": True, "recompute": True}])
def test_ordinary_strategies_are_not_refused(strategy):
    for conservative in (False, True):
        assert refusals(spec(strategy), conservative=conservative, cuda=False) == []


def test_a_setting_that_deepspeed_does_not_know_is_refused_with_the_nearest_that_it_knows(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (found,) = refusals(spec({"deepspeed": {"wall_clock_breakdwn": True}}), conservative=False, cuda=False)
    assert found.path == "strategy.deepspeed.wall_clock_breakdwn"
    assert "did you mean wall_clock_breakdown?" in found.nearest


@pytest.mark.parametrize(
    "given", [{"zero_optimization": {"overlap_com": True}}, {"zero_optimization": {"reduce_bucket_size": "large"}}]
)
def test_a_wrong_value_is_refused_with_what_deepspeed_says_of_it(given, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (found,) = refusals(spec({"deepspeed": given}), conservative=False, cuda=False)
    assert next(iter(given["zero_optimization"])) in found.why


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"curriculum_learning": {"enabled": True}}, "strategy.deepspeed"),
        ({"progressive_layer_drop": {"enabled": True}}, "strategy.deepspeed"),
        ({"eigenvalue": {"enabled": True}}, "strategy.deepspeed"),
        ({"zero_optimization": {"mics_shard_size": 2}}, "strategy.deepspeed"),
        ({"zero_optimization": {"legacy_stage1": True}}, "strategy.deepspeed.zero_optimization.legacy_stage1"),
        ({"tensor_parallel": {"autotp_size": 2}}, "strategy.deepspeed.tensor_parallel"),
        ({"hybrid_engine": {"enabled": True}}, "strategy.deepspeed.hybrid_engine"),
        ({"data_efficiency": {"enabled": True}}, "strategy.deepspeed.data_efficiency"),
        ({"disable_allgather": True}, "strategy.deepspeed.disable_allgather"),
    ],
)
def test_what_deepspeed_has_given_up_and_what_means_nothing_here_is_refused(given, path, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (found,) = refusals(spec({"deepspeed": given}), conservative=False, cuda=False)
    assert found.path == path


def test_what_deepspeed_knows_is_let_through(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    given = {"zero_optimization": {"overlap_comm": True}, "comms_logger": {"enabled": True}}
    assert refusals(spec({"deepspeed": given}), conservative=False, cuda=False) == []


def test_models_say_whether_their_forces_are_a_gradient():
    from equimodels.models.diffusion_transformer import DiffusionTransformer
    from equimodels.models.gaunt_potential import GauntPotential

    assert is_conservative(GauntPotential)
    assert not is_conservative(DiffusionTransformer)
