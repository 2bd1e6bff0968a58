"""From pydantic's errors to problems that say where, what was found, what is allowed and what may be meant."""

import pickle
from typing import Any, Literal, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationInfo, field_validator, model_validator

from cluster.spec.document import parse_document
from cluster.spec.problems import Problem, SpecError
from cluster.spec.validate import validate


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Optimizer(Strict):
    name: Literal["adamw", "lion"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate")


class Range(Strict):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high is {self.high}; allowed: at least low, which is {self.low}")
        return self


class Auth(Strict):
    token: str = Field(default="none", pattern="^[a-z]+$")
    token_file: str | None = None

    @field_validator("token")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if len(value) < 3:
            raise ValueError(f"{value} is too short")
        return value


class Spec(Strict):
    name: str = Field(pattern=r"^[a-z]+$")
    steps: PositiveInt = 1
    as_: str | None = Field(default=None, alias="as")
    optimizer: Optimizer = Optimizer()
    ranges: dict[str, Range] = {}
    items: tuple[Range, ...] = ()
    either: int | Range | None = None
    auth: Auth | None = None
    base: Optimizer | None = None

    @field_validator("base", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"lr": -1, "nme": "x"} if value == "elsewhere.yaml" else value


def problems(text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        validate(parse_document(text, "x.yaml", overrides), Spec)
    return caught.value.problems


def only(text: str, *overrides: str) -> str:
    (problem,) = problems(text, *overrides)
    return str(problem)


def test_a_valid_document_becomes_the_model() -> None:
    document = parse_document("name: ethanol\nas: prod\n", "x.yaml", ["optimizer.lr=3e-3"])
    assert validate(document, Spec) == Spec(name="ethanol", as_="prod", optimizer=Optimizer(lr=3e-3))


def test_an_unknown_key_is_answered_with_the_nearest_known_one() -> None:
    expected = "x.yaml:2:25  optimizer.l_r\n  unknown setting; did you mean 'lr'?\n  settings: lr, name"
    assert only("name: a\noptimizer: {name: lion, l_r: 3}\n") == expected


def test_an_unknown_key_that_is_known_elsewhere_is_answered_with_that_place() -> None:
    assert "did you mean 'ranges.low'?" not in only("name: a\nxyz: 1\n")
    assert "unknown setting; did you mean 'auth.token_file'?" in only("name: a\ntoken_file: x\n")


def test_the_case_of_letters_does_not_hide_the_nearest_key() -> None:
    assert "did you mean 'steps'?" in only("name: a\nSTEPS: 1\n")


def test_an_alias_is_the_name_that_is_suggested() -> None:
    assert "did you mean 'as'?" in only("name: a\nas_s: x\n")


def test_a_missing_setting_is_located_where_it_belongs() -> None:
    assert only("steps: 3\n") == "x.yaml:1:1  name\n  is missing\n  allowed: text like ^[a-z]+$"


def test_a_missing_setting_and_its_misspelling_point_at_each_other() -> None:
    misspelled, missing = sorted(map(str, problems("nmae: a\n")), key=lambda text: "missing" in text)
    assert "unknown setting; did you mean 'name'?" in misspelled
    assert "'nmae' is unknown here; was it meant?" in missing


@pytest.mark.parametrize(
    ("line", "found", "allowed"),
    [
        ("steps: many", "found text 'many'", "a whole number, greater than 0"),
        ("steps: 0", "found the number 0", "a whole number, greater than 0"),
        ("steps: 1.5", "found the number 1.5", "a whole number, greater than 0"),
        ("steps: [1]", "found a list of 1", "a whole number, greater than 0"),
        ("steps:", "found nothing (null)", "a whole number, greater than 0"),
        ("optimizer: 3", "found the number 3", "a mapping with name, lr"),
        ("optimizer: {name: lino}", "found text 'lino'; did you mean 'lion'?", "adamw, lion"),
        ("optimizer: {lr: {a: 1}}", "found a mapping of 1", "a number, greater than 0"),
        ("ranges: [1]", "found a list of 1", "a mapping"),
        ("as: 3", "found the number 3", "text or nothing (null)"),
        ("items: {}", "found a mapping of 0", "a list"),
    ],
)
def test_a_wrong_value_says_what_was_found_and_what_is_allowed(line: str, found: str, allowed: str) -> None:
    (problem,) = problems(f"name: a\n{line}\n")
    assert problem.message == found
    assert problem.allowed == allowed


def test_a_long_text_is_cut_short() -> None:
    assert len(only(f"name: {'A' * 500}\n")) < 200


def test_the_description_of_a_setting_is_shown() -> None:
    assert only("name: a\noptimizer: {lr: -1}\n").endswith("\n  peak learning rate")


def test_lists_and_free_keys_are_part_of_the_path() -> None:
    assert only("name: a\nitems: [{low: 1, high: 2}, {low: x}]\n").startswith("x.yaml:2:29  items.1.low\n")
    assert only("name: a\nranges: {first: {low: x}}\n").startswith("x.yaml:2:18  ranges.first.low\n")


def test_the_alternatives_of_a_union_are_one_problem_without_their_tags() -> None:
    text = only("name: a\neither: [1]\n")
    assert text.startswith("x.yaml:2:1  either\n  found a list of 1\n")
    assert "allowed: a whole number or a mapping with low, high or nothing (null)" in text


def test_a_models_own_check_points_at_the_setting_it_names() -> None:
    expected = "x.yaml:2:23  ranges.a.high\n  high is 1\n  allowed: at least low, which is 3"
    assert only("name: a\nranges: {a: {low: 3,  high: 1}}\n") == expected


def test_errors_inside_what_a_validator_read_elsewhere_keep_their_path() -> None:
    found = problems("name: a\nbase: elsewhere.yaml\n")
    assert {problem.path for problem in found} == {"base", "base.lr"}
    assert {str(problem.place) for problem in found} == {"x.yaml:2:1"}


def test_an_override_is_blamed_by_its_own_text() -> None:
    assert only("name: a\n", "optimizr.lr=1").startswith(
        "--set optimizr.lr=1  optimizr\n  unknown setting; did you mean 'optimizer'?"
    )
    assert only("name: a\n", "steps=-3").startswith("--set steps=-3  steps\n  found the number -3")


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    document = parse_document("steps: x\nname: A\nname: b\nfoo: 1\n", "x.yaml", ["bar=1", "steps.x=1"])
    with pytest.raises(SpecError) as caught:
        validate(document, Spec)
    text = str(caught.value)
    heads = [line for line in text.splitlines() if not line.startswith(" ")]
    assert heads == [
        "x.yaml:1:1  steps",
        "x.yaml:2:1  name",
        "x.yaml:3:1  name",
        "x.yaml:4:1  foo",
        "--set bar=1  bar",
        "--set steps.x=1  steps",
        "6 problems. Nothing was submitted.",
    ]


def test_one_problem_is_counted_in_the_singular() -> None:
    with pytest.raises(SpecError, match=r"\n1 problem\. Nothing was submitted\.$"):
        validate(parse_document("nam: a\nname: b\n", "x.yaml"), Spec)


def test_the_error_survives_pickling() -> None:
    with pytest.raises(SpecError) as caught:
        validate(parse_document("name: 3\n", "x.yaml"), Spec)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems, again.exit_code) == (str(caught.value), caught.value.problems, 2)


def test_validators_are_told_the_folder_of_the_spec(tmp_path: Any) -> None:
    class Asks(Strict):
        name: str

        @field_validator("name")
        @classmethod
        def _with_folder(cls, value: str, info: ValidationInfo) -> str:
            return f"{info.context['folder']}/{value}"  # type: ignore[index]  # the test fails if it is None

    assert validate(parse_document("name: a\n", "x.yaml", folder=tmp_path), Asks).name == f"{tmp_path}/a"


SECRET = "hunter2XYZ"


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (f"name: a\nauth: {{token: {SECRET}}}\n", []),
        (f"name: a\nauth: {{token: [{SECRET}]}}\n", []),
        (f"name: a\nauth: {{tokn: x, token: {SECRET}}}\n", []),
        (f"name: a\nauth: {{token_file: [{SECRET}]}}\n", []),
        (f"name: a\nauth: {SECRET}\napi_key: {SECRET}\n", ["auth.token.x=1"]),
        (f"name: a\napiKey: {SECRET}\npassword: {SECRET}\n", []),
        ("name: a\n", [f"auth.token={SECRET}"]),
        ("name: a\n", [f"auth={{token: {SECRET}}}"]),
        ("name: a\n", [f"auth.token:{SECRET}"]),
        ("name: a\n", [f"auth.token={SECRET}", "auth.token.x=1"]),
        (f"name: a\nauth: {{token: *{SECRET}}}\n", []),
        (f"name: a\nauth: {{token: !{SECRET} x}}\n", []),
        (f"name: a\nauth: {{token: %{SECRET}}}\n", []),
        (f"name: {SECRET}\nauth: {{token: {SECRET}}}\n", []),
    ],
)
def test_a_secret_is_never_part_of_an_error(text: str, overrides: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        validate(parse_document(text, "x.yaml", overrides), Spec)
    error: BaseException | None = caught.value
    while error is not None:
        shown = str(error) if error is caught.value or not caught.value.__suppress_context__ else ""
        assert SECRET not in shown
        error = error.__cause__


def test_a_short_secret_is_hidden_in_the_words_of_a_validator_too() -> None:
    (problem,) = problems("name: a\nauth: {token: qz}\n")
    assert "qz" not in str(problem)
