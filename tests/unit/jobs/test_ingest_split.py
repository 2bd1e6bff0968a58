"""Splits: disjoint, complete, the same for the same seed, and nothing torn apart that belongs together."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dataset.schema import SPLITS
from cluster.errors import UserError
from jobs.ingest.content import hill
from jobs.ingest.duplicates import settle
from jobs.ingest.split import assign_splits, names_of
from jobs.spec.dataset import Shares

TRAIN, VALID, TEST = range(3)


def rows(number: int = 0, **columns: Any) -> pa.Table:
    number = number or len(next(iter(columns.values())))
    given_ = {"split": [""] * number, "group": [str(i) for i in range(number)], **columns}
    return pa.table({name: pa.array(values) for name, values in given_.items()})


def assigned(table: pa.Table, seed: int = 0, **shares: Any) -> list[int]:
    return assign_splits(table, Shares(**shares), seed).tolist()


def test_fractions_and_counts_give_the_same_split() -> None:
    fractions = assigned(rows(50), seed=1, valid=0.1, test=0.2)
    assert fractions == assigned(rows(50), seed=1, valid=5, test=10)
    assert [fractions.count(split) for split in range(3)] == [35, 5, 10]
    assert fractions != assigned(rows(50), seed=2, valid=5, test=10)


def test_each_class_keeps_its_share_in_each_split() -> None:
    label = np.arange(200) % 10 == 0
    splits = np.array(assigned(rows(label=label.astype(np.int64)), valid=0.2, test=0.3))
    assert [int((splits[label] == split).sum()) for split in range(3)] == [10, 4, 6]


def test_groups_are_never_torn_apart() -> None:
    splits = assigned(rows(group=[f"run-{i % 6}" for i in range(60)]), by="group", valid=1, test=2)
    for group in range(6):
        assert len(set(splits[group::6])) == 1
    assert [splits.count(split) for split in range(3)] == [30, 10, 20]


def test_what_a_source_decided_stays() -> None:
    splits = assigned(rows(split=["test"] * 3 + [""] * 10), valid=2, test=0)
    assert splits[:3] == [TEST] * 3
    assert splits[3:].count(VALID) == 2
    assert TEST not in splits[3:]


@pytest.mark.parametrize(
    ("table", "shares", "message"),
    [
        (rows(4), {"valid": 2, "test": 2}, "nothing is left to train on"),
        (rows(4), {"valid": 0.1, "test": 0}, "split.valid is 0.1 of 4 rows, which is none"),
        (rows(group=["a", "b"] * 4), {"by": "group", "valid": 0.2, "test": 0}, "0.2 of 2 groups, which is none"),
        (rows(split=["test"] * 4), {}, "the source holds out all of them"),
        (
            rows(formula=["CH4", "CH4", "H2O", "H2O"], split=["test", "", "", ""]),
            {"by": "composition", "valid": 0, "test": 0},
            "1 formulas are among the rows that the source holds out and among the others: CH4",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(table: pa.Table, shares: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assigned(table, **shares)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), by=st.sampled_from(["random", "group", "composition"]), seed=st.integers(0, 2**31))
def test_splits_are_disjoint_complete_and_tear_nothing(data: st.DataObject, by: str, seed: int) -> None:
    number = data.draw(st.integers(5, 60))
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=number, max_size=number))
    labels = data.draw(st.lists(st.integers(0, 3), min_size=number, max_size=number))
    units = number if by == "random" else len(set(names))
    valid = data.draw(st.integers(0, max(0, units - 1)))
    test = data.draw(st.integers(0, max(0, units - 1 - valid)))
    table = rows(group=names, formula=names, label=labels)
    splits = assigned(table, seed, by=by, valid=valid, test=test)
    assert len(splits) == number
    assert set(splits) <= {TRAIN, VALID, TEST}
    assert assigned(table, seed, by=by, valid=valid, test=test) == splits
    together = list(range(number)) if by == "random" else names
    sides: dict[Any, set[int]] = {}
    for unit, split in zip(together, splits, strict=True):
        sides.setdefault(unit, set()).add(split)
    assert all(len(each) == 1 for each in sides.values())
    counts = [sum(each == {split} for each in sides.values()) for split in range(3)]
    assert counts == [units - valid - test, valid, test]
    # However the rows were cut into pieces.
    cuts = sorted(data.draw(st.sets(st.integers(0, number))))
    parts = [table.slice(begin, end - begin) for begin, end in zip([0, *cuts], [*cuts, number], strict=True)]
    assert assigned(pa.concat_tables(parts), seed, by=by, valid=valid, test=test) == splits


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=10, max_size=200), seed=st.integers(0, 2**31))
def test_no_class_is_more_than_a_row_off_its_share(labels: list[int], seed: int) -> None:
    splits = np.array(assigned(rows(label=labels), seed, valid=0.2, test=0.3))
    for label in set(labels):
        there = splits[np.array(labels) == label]
        for split, share in ((VALID, 0.2), (TEST, 0.3)):
            # Two ends of the stretch, each within one row of where the share ends, and its length rounded.
            assert abs((there == split).sum() - share * len(there)) <= 2


def test_names_of_splits_are_those_of_a_dataset() -> None:
    assert names_of(np.array([0, 1, 2], dtype=np.int8)).to_pylist() == list(SPLITS)


def test_formulas_are_in_hills_order() -> None:
    counts = np.zeros(119, dtype=int)
    counts[[1, 6, 8, 17]] = [6, 2, 1, 1]
    assert hill(counts) == "C2H6ClO"
    counts[6] = 0
    assert hill(counts) == "ClH6O"


# Copies


def copies(contents: str, splits: str, mode: Any = "drop") -> Any:
    digests = pa.chunked_array(
        [[c.encode() * 16 for c in part] for part in (contents[:3], contents[3:])], pa.binary(16)
    )
    codes = np.array(["tve".index(s) for s in splits], dtype=np.int8)
    return settle(digests, pa.chunked_array([[f"row-{i}" for i in range(len(contents))]]), codes, mode)


def test_contents_in_one_split_only_are_left_alone() -> None:
    found = copies("aabcdd", "tttvee", "refuse")
    assert (found.across, found.within, found.dropped.tolist()) == (0, 2, [])


def test_copies_in_two_splits_are_refused_and_named() -> None:
    with pytest.raises(
        UserError, match="2 contents are in more than one split: row-0 = row-3, row-1 = row-4"
    ) as caught:
        copies("abcab", "tttve", "refuse")
    assert "split.duplicates: drop" in str(caught.value.hint)


def test_the_copy_that_is_held_out_longest_stays() -> None:
    found = copies("aaabbcc", "tvetvtt")
    assert found.dropped.tolist() == [0, 1, 3]
    assert (found.across, found.within) == (2, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("tve")), min_size=1, max_size=40))
def test_after_dropping_no_content_is_in_two_splits_and_none_is_lost(pairs: list[tuple[str, str]]) -> None:
    found = copies("".join(c for c, _ in pairs), "".join(s for _, s in pairs))
    left = [pair for i, pair in enumerate(pairs) if i not in set(found.dropped.tolist())]
    assert len(left) + len(found.dropped) == len(pairs)
    assert {content for content, _ in left} == {content for content, _ in pairs}
    for content in {content for content, _ in pairs}:
        sides = {split for c, split in left if c == content}
        assert sides == {max((s for c, s in pairs if c == content), key="tve".index)}
    assert found.within == len(left) - len(set(left))
