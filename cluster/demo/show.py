"""The demo from the first step to the summary."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.demo.plan import Plan
from cluster.demo.question import write_question
from cluster.demo.stage import Stage
from cluster.front_door import resolve
from cluster.session import open_session
from cluster.spec.load import load_spec
from cluster.stopping import Stop, StopSignals
from cluster.store import open_store
from cluster.token import ensure_token

STEPS = 7


def run_demo(plan: Plan, store_uri: str, home: Path, *, keep: bool, console: Console) -> Path:
    """Go the whole way; returns the path of summary.json.

    With `keep` the endpoint stays up until Ctrl-C. Raises Stop when interrupted before that: every process is gone by
    then, and what is on the store is complete.
    """
    started = time.monotonic()
    store = open_store(store_uri)
    store.check_writable()
    folder = home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    token = ensure_token(folder / "endpoint.token")
    console.print(f"[bold]Equimodels demo[/bold]: {plan.about}\nstore {store.uri}", highlight=False)
    with StopSignals() as signals:
        stage: Stage
        console.print("\n[bold]1/7 cluster[/bold]  Ray on this machine, token on, loopback", highlight=False)
        opening = time.monotonic()
        with open_session(home=home) as session, tempfile.TemporaryDirectory(dir=session.folder) as scratch:
            signals.install()  # ray.init puts its own handlers in place
            stage = Stage(store, session, signals, console, STEPS)
            stage.seconds["cluster"] = round(time.monotonic() - opening, 2)
            console.print(f"[dim]cluster: {stage.seconds['cluster']:.1f} s, {session}[/dim]", highlight=False)
            data_name = load_spec(plan.data).kind
            with stage.step(data_name, "real data, labelled here and published as an Arrow dataset"):
                data_run, data = stage.run(plan.data)
                console.print(f"dataset {data['dataset']}: {data['rows']} rows, splits {data['splits']}")
            with stage.step("sweep", "Ray Tune over embedding and architecture, halved asynchronously"):
                sweep_run, sweep = stage.run(plan.sweep)
                winner = folder / "winner.yaml"
                winner.write_bytes(store.read(sweep["winner"]))
            with stage.step("train", "the winner: two workers, DeepSpeed ZeRO-1"):
                train_run, train = stage.run(winner)
            stage.seconds["train"] = round(stage.seconds["train"] - train["publish_seconds"], 2)
            with stage.step("publish", "safetensors and manifest in the registry"):
                console.print(f"{train['model']}, trained on {train['dataset']} by run {train_run}", highlight=False)
            stage.seconds["publish"] = round(train["publish_seconds"], 2)
            loaded = load_spec(plan.endpoint, [f"auth.token_file={token.resolve()}", "http.port=0"], store=store)
            with stage.recorded(loaded) as endpoint_run:
                context = stage.context(endpoint_run.record.id, Path(scratch))
                with stage.step("deploy", "a Ray Serve endpoint that follows the alias prod"):
                    endpoint = resolve("serve.deploy:deploy")(loaded.spec, context)
                try:
                    with stage.step("check", "unseen data through the endpoint, against knowing nothing"):
                        evaluate = f"endpoint={endpoint.url}", f"token_file={token.resolve()}"
                        check_run, check = stage.run(plan.evaluate, *evaluate)
                    runs = {"data": data_run, "sweep": sweep_run, "train": train_run, "check": check_run}
                    summary = {
                        "task": endpoint.task,
                        "dataset": data["dataset"],
                        "run": train_run,
                        "runs": runs,
                        "model": train["model"],
                        "endpoint": endpoint.url,
                        "metrics": check["metrics"],
                        "seconds": {**stage.seconds, "total": round(time.monotonic() - started, 2)},
                        "store": store.uri,
                    }
                    path = _written(summary, folder)
                    resolve("jobs.report.demo:write_demo_report")(store, summary, folder / "report.html")
                    console.print()
                    console.print(_table(summary, folder))
                    _say_how_to_ask(console, endpoint.url, token, *write_question(store, data["dataset"], folder))
                    if keep:
                        _stay(console, signals)
                finally:
                    resolve("serve.deploy:withdraw")(loaded.spec.name, context)
                endpoint_run.outputs = {"url": endpoint.url, "model": endpoint.model}
    return path


def _written(summary: dict[str, Any], folder: Path) -> Path:
    """summary.json, whole or not there."""
    path, half = folder / "summary.json", folder / "summary.json.part"
    half.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    half.replace(path)
    return path


def _table(summary: dict[str, Any], folder: Path) -> Table:
    view = Table(title="The whole way", title_justify="left", show_header=False)
    view.add_column(style="bold")
    view.add_column()
    for name in ("dataset", "run", "model", "endpoint"):
        view.add_row(name, str(summary[name]))
    for name, value in summary["metrics"].items():
        view.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    view.add_row("seconds", "  ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items()))
    view.add_row("summary", str(folder / "summary.json"))
    view.add_row("report", str(folder / "report.html"))
    return view


def _say_how_to_ask(console: Console, url: str, token: Path, route: str, question: Path) -> None:
    console.print(
        f"equi query {url} --body @{question} --token-file {token}\n"
        f'curl -s {url}/v1/{route} -H "Authorization: Bearer $(cat {token})" '
        f"-H 'Content-Type: application/json' -d @{question}\n"
        f"pages: {url}/docs  {url}/openapi.json",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _stay(console: Console, signals: StopSignals) -> None:
    console.print("The endpoint stays up; Ctrl-C ends it.")
    try:
        while not signals.requested:
            time.sleep(0.3)
    except Stop:  # what was waited for, not an interruption: the demo has gone the whole way
        console.print("the endpoint is taken down")
