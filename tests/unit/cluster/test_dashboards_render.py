"""The dashboard agrees with the table of metrics, and any Grafana can take it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import cli
from cluster.dashboards.render import render_dashboard
from cluster.metrics import GROUPS, METRICS, Metric

SERIES = re.compile(r"\bray_[a-z_]+")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def unknown_series(dashboard: dict[str, Any]) -> set[str]:
    """Series that some expression asks for and no metric of the table gives."""
    known = {series for metric in METRICS.values() for series in metric.series}
    return {name for text in expressions(dashboard) for name in SERIES.findall(text)} - known


def overlaps(dashboard: dict[str, Any]) -> bool:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    return len(cells) != len(set(cells)) or any(x >= 24 for x, _ in cells)


def test_every_metric_has_one_panel_under_the_row_of_its_group() -> None:
    dashboard = render_dashboard()
    titles = [panel["title"] for panel in dashboard["panels"]]
    expected = [
        title
        for group, row in zip(GROUPS, ("Training", "Sweeps", "Endpoints"), strict=True)
        for title in [row, *(metric.title for metric in METRICS.values() if metric.group == group)]
    ]
    assert titles == expected


def test_every_expression_asks_for_series_of_the_table_only() -> None:
    assert len(expressions(render_dashboard())) == len(METRICS)
    assert unknown_series(render_dashboard()) == set()


def test_an_expression_with_a_misspelled_series_is_noticed() -> None:
    row = METRICS["equi_samples"]
    wrong = Metric(**{**vars(row), "expression": row.expression.replace("samples", "sample")})
    assert unknown_series(render_dashboard([wrong])) == {"ray_equi_sample_total"}


def test_panels_do_not_overlap_and_stay_on_the_grid() -> None:
    assert not overlaps(render_dashboard())
    moved = render_dashboard()
    moved["panels"][2]["gridPos"] = moved["panels"][1]["gridPos"]
    assert overlaps(moved)


def test_panel_numbers_are_unique() -> None:
    numbers = [panel["id"] for panel in render_dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_data_source_is_a_variable_everywhere() -> None:
    text = json.dumps(render_dashboard())
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"equimodels", "${datasource}"}


def test_two_renderings_are_equal_and_leave_identity_to_the_server() -> None:
    assert json.dumps(render_dashboard()) == json.dumps(render_dashboard())
    assert not {"id", "version"} & set(render_dashboard())


def test_variables_used_in_expressions_are_defined() -> None:
    dashboard = render_dashboard()
    defined = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    used = {name for text in expressions(dashboard) for name in re.findall(r"\$(\w+)", text)}
    assert used <= defined
    assert {"run", "endpoint", "__rate_interval"} <= used


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_itself_parses_every_expression(tmp_path: Path) -> None:
    def check(texts: list[str]) -> subprocess.CompletedProcess[str]:
        rules = [
            {"record": f"check:{number}", "expr": text.replace("$__rate_interval", "5m")}
            for number, text in enumerate(texts)
        ]
        file = tmp_path / "rules.yml"
        file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        return subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)

    texts = expressions(render_dashboard())
    assert check(texts).returncode == 0, check(texts).stderr
    assert check([*texts, "sum by (run_id) (rate(ray_x[5m])"]).returncode != 0  # a bracket is missing


def test_the_command_writes_the_dashboard_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with pytest.raises(SystemExit) as ended:
        cli.main(["dashboards", "render", "--out", str(out), "--dry-run"])
    assert ended.value.code == 0
    assert not out.exists()
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.main(["dashboards", "render", "--out", str(out)])
        assert ended.value.code == 0
        assert [path.name for path in out.iterdir()] == ["equimodels.json"]
        assert json.loads((out / "equimodels.json").read_text()) == render_dashboard()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        cli.main(["dashboards", "render", "--out", str(tmp_path / "file" / "out")])
    assert ended.value.code == 2
    assert "cannot write to" in capsys.readouterr().err
