"""The whole grid of strategies: a combination is refused, or it takes the steps of plain torch. Nothing between."""

import grid
import pytest

pytestmark = pytest.mark.integration


def check(two_ranks, chosen, at_a_time=8):
    """Take the steps of all `chosen`; those that are not the steps of one process in full precision."""
    plain = {"kind": "single", "units": "root", "force_gradient": "double_backward", "precision": "fp32"}
    references = [(name, plain, optimizer) for name in grid.TASKS for optimizer in grid.OPTIMIZERS]
    todo, found = [*references, *chosen], []
    for first in range(0, len(todo), at_a_time):
        found += two_ranks.call(grid.steps, todo[first : first + at_a_time], seconds=280)[0]
    expected = {(name, o["name"]): result for (name, _, o), result in zip(references, found, strict=False)}
    wrong = []
    for (name, strategy, optimizer), result in zip(chosen, found[len(references) :], strict=True):
        if isinstance(result, str):
            wrong.append(f"{name} {strategy} {optimizer['name']}: {result[-500:]}")
        elif not grid.agree(result, expected[name, optimizer["name"]], strategy, optimizer["name"]):
            wrong.append(f"{name} {strategy} {optimizer['name']}: other steps")
    return wrong


def accepted(**how):
    return [combination for combination in grid.combinations(**how) if not grid.refused(*combination)]


def test_the_grid_is_neither_all_refused_nor_all_accepted():
    every = list(grid.combinations(compiled=False))
    assert len(accepted(compiled=False)) == 124
    assert len(every) == 448


def test_a_sample_of_what_is_accepted_takes_its_steps(two_ranks):
    assert check(two_ranks, accepted(compiled=False)[::8]) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_that_is_accepted_takes_its_steps(two_ranks):
    assert check(two_ranks, accepted(compiled=False)) == []


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_compiled_blocks_take_the_same_steps(two_ranks):
    chosen = accepted(compiled=True)
    assert {name for name, *_ in chosen} == {"transformer"}
    assert check(two_ranks, chosen, at_a_time=2) == []
