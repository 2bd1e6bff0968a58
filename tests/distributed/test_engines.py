"""DDP and ZeRO on two ranks against plain torch in one process: the same steps, and every promise of the interface."""

import math

import engine_checks as checks
import pytest
import tiny

pytestmark = pytest.mark.integration
STEPS = 20
ALL_SHARDED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}  # DeepSpeed leaves small ones whole
STRATEGIES = {
    "ddp": {"kind": "ddp"},
    **{f"zero-{stage}": {"kind": "deepspeed", "zero_stage": stage} for stage in range(4)},
    "zero-3, all sharded": {"kind": "deepspeed", "zero_stage": 3, "deepspeed": ALL_SHARDED},
}
# ZeRO-0 is DDP by other means, and ZeRO-3 on a small model differs from the sharded one in nothing but speed.
MOST = [pytest.param(s, marks=pytest.mark.slow) if s in ("zero-0", "zero-3") else s for s in STRATEGIES]
EACH = [
    *(("potential", strategy) for strategy in STRATEGIES),
    *(("transformer", strategy) for strategy in STRATEGIES),
    *(("potential of one layer", strategy) for strategy in ("ddp", "zero-2")),  # a parameter without numbers
]


@pytest.fixture(scope="module")
def alone(one_rank):
    """Plain torch in one process; not in this one, which has more threads than the ranks."""
    return {name: one_rank.call(checks.trained, name, {"kind": "ddp"}, STEPS)[0] for name in checks.TASKS}


@pytest.mark.parametrize(("name", "strategy"), EACH)
def test_twenty_steps_are_those_of_one_process(two_ranks, alone, name, strategy):
    (state, losses, norms), other = two_ranks.call(checks.trained, name, STRATEGIES[strategy], STEPS)
    assert (losses, norms) == (other[1], other[2])
    assert checks.same_bits(state, other[0])
    assert state.keys() == {"value", "exp_avg", "exp_avg_sq"}
    assert tiny.difference(state, alone[name][0]) <= 1e-6
    assert losses == pytest.approx(alone[name][1], rel=1e-6)
    assert norms == pytest.approx(alone[name][2], rel=1e-5)


@pytest.mark.parametrize("strategy", MOST)
def test_a_run_goes_from_two_workers_to_one_and_back(two_ranks, one_rank, strategy):
    how = STRATEGIES[strategy]
    (unbroken, losses, _), _ = two_ranks.call(checks.trained, "potential", how, 9)
    (saved, found, _), _ = two_ranks.call(checks.trained, "potential", how, 3)
    for ranks, taken in ((one_rank, 3), (two_ranks, 6)):
        results = ranks.call(checks.resumed, "potential", how, saved, taken, 3)
        assert all(checks.same_bits(loaded, saved) for loaded, *_ in results)
        _, saved, more = results[0]
        found += more
    assert found == pytest.approx(losses, rel=1e-6)
    assert tiny.difference(saved, unbroken) <= 1e-6


@pytest.mark.parametrize("strategy", MOST)
def test_resumed_on_as_many_workers_nothing_differs(two_ranks, strategy):
    (unbroken, losses, _), _ = two_ranks.call(checks.trained, "transformer", STRATEGIES[strategy], 4)
    (saved, found, _), _ = two_ranks.call(checks.trained, "transformer", STRATEGIES[strategy], 2)
    (_, ended, more), _ = two_ranks.call(checks.resumed, "transformer", STRATEGIES[strategy], saved, 2, 2)
    assert found + more == losses
    assert checks.same_bits(ended, unbroken)


def test_a_run_goes_on_under_any_other_strategy(two_ranks, alone):
    (saved, *_), _ = two_ranks.call(checks.trained, "transformer", STRATEGIES["zero-2"], 3)
    ends = []
    for strategy in STRATEGIES.values():
        (loaded, ended, _), _ = two_ranks.call(checks.resumed, "transformer", strategy, saved, 3, 2)
        assert checks.same_bits(loaded, saved)
        ends.append(ended)
    assert max(tiny.difference(end, ends[0]) for end in ends) <= 1e-6


@pytest.mark.parametrize("strategy", ["zero-1", "zero-3, all sharded"])
def test_an_offloaded_optimizer_takes_the_same_steps(two_ranks, alone, strategy):
    (state, losses, _, loaded), _ = two_ranks.call(checks.offloaded, "transformer", STRATEGIES[strategy], 4)
    assert losses == pytest.approx(alone["transformer"][1][:4], rel=1e-6)
    assert state.keys() == {"value", "exp_avg", "exp_avg_sq"}
    assert checks.same_bits(loaded, state)


def test_zero_0_clips_by_the_norm_that_is_known(two_ranks):
    how = {**STRATEGIES["zero-0"], "gradient_clipping": 1e-3}
    (calls, lengths, norms), _ = two_ranks.call(checks.norms_computed, "transformer", how)
    assert calls == 0
    assert all(norm > 1e-2 for norm in norms)
    assert lengths == pytest.approx([1e-3, 1e-3], rel=1e-2)


@pytest.mark.parametrize("strategy", ["ddp", "zero-0", "zero-2"])
def test_each_number_is_read_by_one_rank(two_ranks, strategy):
    (saved, *_), _ = two_ranks.call(checks.trained, "transformer", STRATEGIES["ddp"], 2)
    found = two_ranks.call(checks.numbers_read, "transformer", STRATEGIES[strategy], saved, 2)
    size = sum(len(values) for of in saved.values() for values in of.values())
    assert sum(asked for asked, _ in found) == size
    assert all(checks.same_bits(loaded, saved) for _, loaded in found)


@pytest.mark.parametrize("strategy", MOST)
def test_a_step_that_is_not_finite_or_beyond_the_limit_changes_nothing(two_ranks, strategy):
    (found, end, counters), other = two_ranks.call(checks.without_bad_steps, "potential", STRATEGIES[strategy])
    for (before, after, norm, steps), (*_, same_norm, _) in zip(found, other[0], strict=True):
        assert checks.same_bits(before, after)
        assert steps == 2
        assert norm == same_norm or not math.isfinite(norm + same_norm)
    assert [math.isfinite(norm) for _, _, norm, _ in found] == [False, False, True]
    assert found[2][2] > 1e-12
    (expected, *_), _ = two_ranks.call(checks.trained, "potential", STRATEGIES[strategy], 4)
    assert counters == {"steps": 4}
    assert checks.same_bits(end, expected)


@pytest.mark.parametrize("strategy", MOST)
def test_other_weights_are_put_in_and_the_old_ones_back(two_ranks, strategy):
    (losses, before, after, end), _ = two_ranks.call(checks.installed, "potential", STRATEGIES[strategy])
    assert losses[0] == losses[1]
    assert checks.same_bits(before, after)
    (expected, *_), _ = two_ranks.call(checks.trained, "potential", STRATEGIES[strategy], 4)
    assert checks.same_bits(end, expected)


def test_what_a_rank_holds(two_ranks):
    moments, parameters = {}, {}
    for strategy, how in STRATEGIES.items():
        found = two_ranks.call(checks.held, "transformer", how)
        moments[strategy], parameters[strategy] = (max(part) for part in zip(*found, strict=True))
    whole, alone = parameters["ddp"], 2 * parameters["ddp"]
    for strategy in ("zero-1", "zero-2", "zero-3", "zero-3, all sharded"):
        assert moments[strategy] <= 0.55 * alone
    assert parameters["zero-3, all sharded"] <= 0.6 * whole
