"""Parameters are divided among the ranks: each to one, and the numbers about evenly."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.strategy.owners import owners

SIZES = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(0, 1000), max_size=20)


@given(SIZES, st.integers(1, 5))
def test_every_parameter_has_one_rank(sizes, ranks):
    found = owners(sizes, ranks)
    assert found.keys() == sizes.keys()
    assert set(found.values()) <= set(range(ranks))


@given(SIZES, st.integers(1, 5))
def test_loads_differ_by_one_parameter_at_most(sizes, ranks):
    loads = [0] * ranks
    for name, rank in owners(sizes, ranks).items():
        loads[rank] += sizes[name]
    assert max(loads) - min(loads) <= max(sizes.values(), default=0)


def test_the_order_of_the_parameters_does_not_matter():
    sizes = {"a": 3, "b": 3, "c": 2, "d": 2}
    assert owners(sizes, 2) == owners(dict(reversed(sizes.items())), 2) == {"a": 0, "b": 1, "c": 0, "d": 1}
