"""DeepSpeed's configuration: explicit where its defaults are traps, and nothing is given twice."""

import pytest

from jobs.spec.train import TrainSpec
from jobs.strategy.zero_config import deepspeed_config, taken


def spec(**strategy):
    return TrainSpec.model_validate(
        {
            "spec_version": 1,
            "kind": "train",
            "name": "tiny",
            "data": {"uri": "datasets/none@1", "batch": {"samples": 24}},
            "model": {"name": "none"},
            "objective": {"name": "none"},
            "strategy": strategy,
            "resources": {"workers": {"min": 1, "max": 4}},
        }
    )


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_clipping_is_never_left_to_the_default_of_deepspeed(stage):
    ours, given = (10.0, 7.0) if stage else (0.0, 0.0)  # stage 0: the engine clips
    assert deepspeed_config(spec(zero_stage=stage), 2)["gradient_clipping"] == ours
    assert deepspeed_config(spec(zero_stage=stage, gradient_clipping=7.0), 2)["gradient_clipping"] == given


def test_deepspeed_is_stage_1_unless_said():
    assert deepspeed_config(spec(kind="deepspeed"), 2)["zero_optimization"]["stage"] == 1
    assert deepspeed_config(spec(zero_stage=0), 2)["zero_optimization"]["stage"] == 0
    changed = spec().with_changes({"strategy.kind": "ddp"})  # nothing of another kind is left behind
    assert (changed.strategy.stage, changed.strategy.zero_stage) == (None, None)


@pytest.mark.parametrize(("workers", "micro_batches"), [(4, 2), (2, 4), (1, 8)])
def test_micro_batches_are_the_same_on_any_number_of_workers(workers, micro_batches):
    config = deepspeed_config(spec(accumulate=2), workers)
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["gradient_accumulation_steps"] == micro_batches


def test_what_is_given_is_merged_into_what_the_spec_sets():
    given = {"zero_optimization": {"reduce_bucket_size": 1000}, "wall_clock_breakdown": True}
    config = deepspeed_config(spec(zero_stage=2, deepspeed=given), 1)
    assert config["zero_optimization"] == {"stage": 2, "contiguous_gradients": False, "reduce_bucket_size": 1000}
    assert config["wall_clock_breakdown"] is True
    given = {"zero_optimization": {"contiguous_gradients": True}}
    assert deepspeed_config(spec(zero_stage=1, deepspeed=given), 1)["zero_optimization"]["contiguous_gradients"] is True


def test_what_the_spec_sets_is_found_at_any_depth():
    given = {
        "gradient_clipping": 1.0,
        "fp16": {"enabled": True},
        "zero_optimization": {"stage": 1, "overlap_comm": True, "offload_param": {"device": "cpu"}},
    }
    assert dict(taken(given)).keys() == {
        "gradient_clipping",
        "fp16",
        "zero_optimization.stage",
        "zero_optimization.offload_param",
    }
