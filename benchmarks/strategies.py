"""Every strategy against plain torch: python benchmarks/strategies.py [--quick] [--device cuda]

Ranks under torchrun: two of one thread each over gloo, or one on each GPU over NCCL. Parity: 20 steps of AdamW with
clipping, then the largest difference of a parameter to the same steps on whole batches in one process of plain torch.
Memory: what a rank holds between steps, beside what one process holds. Time: short stretches of steps of all strategies
in turn in the same processes, beside torch's DistributedDataParallel and AdamW; ratios are medians of those of a turn.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from measuring import Contention, Goal, Report, options_of, ratio, write
from torchrun import name_of, ranks_on, torchrun

RANK = Path(__file__).with_name("strategies_rank.py")
STEPS = 20  # of parity
STRETCH = 3  # steps that are timed together
IMAGES = 4  # of a rank and step
PLAIN = "plain torch DDP"
SHARDED = ("ZeRO-3", "FSDP2", "FSDP2 blocks")
MIB = 2**20


def measured(what: str, setting: str, device: str, ranks: int) -> dict[str, Any]:
    """The answer of the ranks. what: parity or cost; setting: the size of the potential, or turns."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        torchrun(RANK, what, device, setting, str(out), ranks=ranks, device=device)
        answer: dict[str, Any] = json.loads(out.read_text())
    return answer


def time_rows(times: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    """Of each strategy."""
    wall, own = ({name: [turn[clock] for turn in found] for name, found in times.items()} for clock in (0, 1))
    return [
        {
            "strategy": name,
            "ms a step": round(1e3 * statistics.median(wall[name]), 1),
            "time, ratio": round(ratio(wall, name, PLAIN), 3),
            "processor time, ratio": round(ratio(own, name, PLAIN), 3),
        }
        for name in times
    ]


def memory_rows(memory: list[dict[str, dict[str, float]]], numbers: int) -> list[dict[str, Any]]:
    """Of each strategy, the rank that holds most. numbers: in the model, of four bytes each."""
    rows = []
    for name in memory[0]:
        most = {what: max(rank[name][what] for rank in memory) for what in memory[0][name]}
        moments, parameters = most.pop("moments"), most.pop("parameters")
        rows.append(
            {
                "strategy": name,
                "optimizer, MiB": round(moments / MIB, 1),
                "optimizer, of one process": round(moments / (8 * numbers), 3),
                "parameters, MiB": round(parameters / MIB, 1),
                "parameters, of one process": round(parameters / (4 * numbers), 3),
                **{f"{what}, MiB": found for what, found in most.items()},
            }
        )
    return rows


def goals_of(
    parity: list[dict[str, Any]], memory: list[dict[str, Any]], time: list[dict[str, Any]], ranks: int
) -> list[Goal]:
    """What was wanted; of memory only where there is more than one rank to divide it."""
    column, goals = "largest difference", []
    for model in dict.fromkeys(row["model"] for row in parity):
        worst = max((row for row in parity if row["model"] == model), key=lambda row: row[column])
        goals.append(Goal(f"difference, {model}, the worst: {worst['strategy']}", worst[column], 1e-6, less=True))
    of = {row["strategy"]: row for row in memory}
    if ranks > 1:
        for name, what, wanted in (
            *((name, "optimizer", 1.1 / ranks) for name in ("ZeRO-1", "ZeRO-2")),
            *((name, "parameters", 1.2 / ranks) for name in SHARDED),
        ):
            goals.append(Goal(f"{what} a rank, {name}", of[name][f"{what}, of one process"], wanted, less=True))
    zero_1 = next(row for row in time if row["strategy"] == "ZeRO-1")
    goals += [
        Goal(f"ZeRO-1 / {PLAIN}, {what}", zero_1[f"{what}, ratio"], 1.15, less=True)
        for what in ("time", "processor time")
    ]
    return goals


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--device", {"default": "cpu", "help": "cuda: a rank on each GPU"}))
    ranks = ranks_on(options.device)
    exact = measured("parity", "tiny" if options.quick else "small", options.device, ranks)
    contention = Contention()
    found = measured("cost", str(4 * options.rounds), options.device, ranks)
    options.shares.append(contention.cores())
    cost = found["cost"]
    time, memory = time_rows(cost["times"]), memory_rows(cost["memory"], cost["numbers"])
    settings = {
        "ranks": ranks,
        "device": name_of(options.device),
        "threads of a rank": 1,
        "steps of parity": STEPS,
        "time and memory": f"diffusion transformer of {cost['numbers']:,} parameters, {IMAGES} images a rank and step",
        f"turns of {STRETCH} steps": 4 * options.rounds,
    }
    notes = [
        "Differences are rounding: largest for numbers whose first gradient, some 1e-9, is below AdamW's epsilon.",
        "Plain torch clips gradients as ours does. ZeRO-3 shards small parameters, too, unlike DeepSpeed's default.",
        "ZeRO-1 and 2 keep a master of what a rank updates beside the parameters that the forward pass reads.",
        "The optimizer of one process: two moments; its parameters: one copy. Both fp32.",
        f"{'A rank' if exact['ray'] or found['ray'] else 'No rank'} imported Ray.",
    ]
    tables = {
        f"Largest difference of a parameter to one process, after {STEPS} steps": exact["parity"],
        "Memory of a rank between steps": memory,
        "Time of a step": time,
    }
    goals = goals_of(exact["parity"], memory, time, ranks)
    write(Report("strategies", "Strategies against plain torch", settings, tables, goals, notes), options)


if __name__ == "__main__":
    main()
