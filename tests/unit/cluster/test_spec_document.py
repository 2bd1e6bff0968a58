"""Reading a spec: YAML 1.2, the place of every part, overrides, and what is wrong with the text itself."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.spec.document import Document, parse_document, read_document

TEXT = """\
# a comment
name: ethanol
model: {name: gaunt_potential, params: {lmax: 2}}
space:
  model.params.lmax: {choice: [1, 2, 3]}
publish:
rate: 1e-4
"""


def parse(text: str = TEXT, *overrides: str) -> Document:
    return parse_document(text, "train.yaml", overrides)


def test_numbers_follow_yaml_1_2() -> None:
    data = parse("a: 1e-4\nb: no\nc: 12:30\nd: 0x10\ne: 2024-01-01\nf: ~\n1: .inf\n").data
    assert data == {"a": 1e-4, "b": "no", "c": "12:30", "d": 16, "e": "2024-01-01", "f": None, "1": float("inf")}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), "train.yaml:2:1"),
        (("name",), "train.yaml:2:1"),
        (("model", "params", "lmax"), "train.yaml:3:41"),
        (("space", "model.params.lmax", "choice", 1), "train.yaml:5:35"),
        (("model", "params", "channels"), "train.yaml:3:32"),
        (("nothing", "like", "it"), "train.yaml:2:1"),
    ],
)
def test_every_part_knows_where_it_is_and_the_missing_ones_what_is_around_them(
    path: tuple[str | int, ...], place: str
) -> None:
    assert str(parse().place(path)) == place


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("name=other", ("name",), "other"),
        ("model.params.lmax=3", ("model", "params", "lmax"), 3),
        ("rate=3e-3", ("rate",), 3e-3),
        ("model.params={lmax: 1, channels: 8}", ("model", "params"), {"lmax": 1, "channels": 8}),
        ("space.model.params.lmax.choice.1=9", ("space", "model.params.lmax", "choice", 1), 9),
        ("space.model.params.lmax.choice=[4]", ("space", "model.params.lmax", "choice"), [4]),
        ("publish.as=ethanol", ("publish", "as"), "ethanol"),
        ("schedule.steps=10", ("schedule", "steps"), 10),
        ("name=", ("name",), None),
        ("name=a=b", ("name",), "a=b"),
    ],
)
def test_an_override_is_a_yaml_value_at_a_dotted_path(
    override: str, path: tuple[str | int, ...], value: object
) -> None:
    document = parse(TEXT, override)
    found = document.data
    for key in path:
        found = found[key]  # type: ignore[index]  # lists and mappings alternate
    assert (found, document.problems) == (value, ())
    assert str(document.place(path)) == f"--set {override}"


def test_an_override_leaves_the_places_around_it_alone() -> None:
    document = parse(TEXT, "model.params={channels: 8}")
    assert str(document.place(("model", "name"))) == "train.yaml:3:9"
    assert str(document.place(("model", "params", "lmax"))) == "--set model.params={channels: 8}"


def test_the_last_of_two_overrides_wins() -> None:
    document = parse(TEXT, "name=first", "name=second")
    assert document.data["name"] == "second"
    assert str(document.place(("name",))) == "--set name=second"


def test_an_override_of_one_use_of_an_anchor_leaves_the_other() -> None:
    assert parse("a: &x {q: 1}\nb: *x\n", "b.q=2").data == {"a": {"q": 1}, "b": {"q": 2}}


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("name", "", "is no override"),
        ("model..lmax=1", "model..lmax", "is no override"),
        ("=1", "", "is no override"),
        ("name.first=x", "name", "has no setting 'first': it is text 'ethanol', not a mapping"),
        ("space.model.params.lmax.choice.3=1", "space.model.params.lmax.choice.3", "no such item; the list has 3"),
        ("space.model.params.lmax.choice.x=1", "space.model.params.lmax.choice.x", "no such item; the list has 3"),
        ("model={name: a, name: b}", "model", "is given twice"),
        ("name=[1", "name", "is not YAML"),
        ("name=!secret x", "name", "has a YAML tag"),
    ],
)
def test_an_override_that_cannot_be_applied_is_a_problem_and_changes_nothing(
    override: str, path: str, message: str
) -> None:
    document = parse(TEXT, override)
    (problem,) = document.problems
    assert problem.path == path
    assert message in problem.message
    assert str(problem.place).startswith("--set ")
    assert document.data == parse().data


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: [1, 2\n", "train.yaml:3:1", "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2\n", "train.yaml:2:1", "is given twice; the first is in line 1"),
        ("a: {b: 1, c: 2,\n  b: 3}\n", "train.yaml:2:3", "is given twice"),
        ("a: *nowhere\n", "train.yaml:1:4", "undefined alias"),
        ("a: !python/object x\n", "train.yaml:1:4", "has a YAML tag"),
        ("a: !!binary aGVsbG8=\n", "train.yaml:1:4", "has a YAML tag"),
        ("a: !!int x\n", "train.yaml:1:4", "cannot be read"),
        ("? [a, b]\n: 1\n", "train.yaml:1:3", "has a list or a mapping as a key"),
        ("a: {<<: 3}\n", "train.yaml:1:4", "merges with <<"),
        ("a: 1\n---\nb: 2\n", "train.yaml:2:1", "single document"),
        ("", "train.yaml:1:1", "the file is empty"),
        ("- a\n- b\n", "train.yaml:1:1", "found a list of 2"),
        ("a: \x07\n", "train.yaml:1:1", "a control character"),
        ("[" * 1000, "train.yaml:1:1", "nested too deeply"),
        ("a: &x {b: *x}\n", "train.yaml:1:1", "an alias of itself?"),
        ("a: &x {<<: *x, b: 1}\nc: 1\n", None, None),
    ],
)
def test_what_is_wrong_with_the_text_is_one_problem_at_its_place(
    text: str, place: str | None, message: str | None
) -> None:
    problems = parse(text).problems
    if message is None:
        assert problems == ()
        return
    assert [str(problem.place) for problem in problems] == [place]
    assert message in problems[0].message


def test_every_duplicate_key_is_reported_and_the_first_value_kept() -> None:
    document = parse("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n")
    assert sorted(str(problem.place) for problem in document.problems) == [
        "train.yaml:2:1",
        "train.yaml:3:11",
        "train.yaml:4:1",
    ]
    assert document.data == {"a": 1, "b": {"c": 1}}


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (problem,) = parse("\n".join(lines)).problems
    assert "aliases of aliases?" in problem.message


def test_merged_keys_yield_to_own_keys() -> None:
    document = parse("base: &x {q: 1, r: 2}\nm: {<<: *x, q: 3}\nn: {<<: [*x, {s: 4}]}\n")
    assert document.data["m"] == {"q": 3, "r": 2}
    assert document.data["n"] == {"q": 1, "r": 2, "s": 4}
    assert str(document.place(("m", "r"))) == "train.yaml:1:17"


def test_a_file_is_read_with_its_folder_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    document = read_document(tmp_path / "a.yaml")
    assert document.data == {"name": "x"}
    assert document.folder == tmp_path
    assert str(document.place(("name",))) == f"{tmp_path / 'a.yaml'}:1:1"


def test_a_missing_file_names_the_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").touch()
    with pytest.raises(UserError, match=r"there is no file .*trian\.yaml\n  did you mean .*train\.yaml\?"):
        read_document(tmp_path / "trian.yaml")
    with pytest.raises(UserError, match="there is no folder"):
        read_document(tmp_path / "nowhere" / "train.yaml")


def test_a_folder_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_document(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_document(tmp_path / "x.yaml")
