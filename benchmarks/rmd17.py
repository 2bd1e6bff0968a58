"""Training potentials on rMD17 for the same time, and how fast they are then: python benchmarks/rmd17.py

Ours and the peers, each in its own environment (`make bench-peers`), in the same loop (`peers/training.py`): 950 frames
of ethanol or aspirin, 15 minutes of steps on two threads, the averaged weights tested on 1,000 frames. What is timed is
steps alone: no neighbour lists, no collation, no validation. Then energies and forces of 64 molecules, in turn.

Runs take hours. Each is kept in --runs as soon as it is over and not taken again until that folder is removed. A run is
marked with its commit and with what others used of the machine meanwhile.
"""

import contextlib
import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from measuring import FOLDER, Contention, Goal, Report, commit, in_turn, options_of, ratio, spread, write
from peers.session import FOLDER as PEERS
from peers.session import Peer, peer_of

THREADS, SECONDS = 2, 900
STRUCTURES = 64  # of which energies and forces are timed together
OURS = "ours"
CASES: dict[str, dict[str, Any]] = {
    OURS: {"file": "our_potential.py", "settings": {}},
    "MACE 32x0e+32x1o": {"environment": "mace", "file": "mace_potential.py", "settings": {"channels": 32}},
    "NequIP": {"environment": "nequip", "file": "nequip_potential.py", "settings": {}},
}
WANTED = {"accuracy": 1.25, "speed": 2.0}  # error of the best peer / ours; time of the fastest / ours


def trained(peer: Peer, case: str, molecule: str, seed: int, options: Any) -> dict[str, Any]:
    """One run, or what is kept of it."""
    told = {
        "molecule": molecule,
        "seed": seed,
        "seconds": options.seconds,
        "settings": CASES[case]["settings"],
        "recipe": {},
        "threads": THREADS,
    }
    kept = options.runs / f"{case.split()[0]}-{molecule}-{seed}-{options.seconds}s.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found["asked"] == told:
            return found
    sys.stderr.write(f"{case}, {molecule}, seed {seed}: {options.seconds} s of steps\n")
    contention = Contention()
    found = peer.ask("answer", what="train", **told)
    found |= {"asked": told, "commit": commit(), "others": round(contention.cores(), 2)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=2) + "\n")
    return found


def rows_of(runs: Mapping[str, list[dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """A row for each potential: means over the seeds, and how far they are apart."""
    for case, found in runs.items():
        force = [run["force"] for run in found]
        yield {
            "potential": case,
            "force MAE, meV/A": round(statistics.mean(force), 2),
            "of the seeds": ", ".join(f"{value:.1f}" for value in force),
            "energy MAE, meV": round(statistics.mean(run["energy"] for run in found), 2),
            "parameters": found[0]["parameters"],
            "epochs": round(statistics.mean(run["epochs"] for run in found)),
            "ms a step": round(statistics.mean(1e3 * run["asked"]["seconds"] / run["steps"] for run in found), 1),
            "others, cores": max(run["others"] for run in found),
            "commit": found[0]["commit"][:7],
        }


def main() -> None:
    """Run and write the results."""
    options = options_of(
        __doc__,
        ("--seconds", {"type": int, "default": SECONDS, "help": "of steps, a run"}),
        ("--seeds", {"type": int, "nargs": "+", "default": [1, 2, 3]}),
        ("--molecules", {"nargs": "+", "default": ["ethanol", "aspirin"], "choices": ("ethanol", "aspirin")}),
        ("--runs", {"type": Path, "default": FOLDER.parent / "build" / "rmd17", "help": "folder of finished runs"}),
    )
    if options.quick:
        options.seconds, options.seeds, options.molecules = 10, [1], ["ethanol"]
    with contextlib.ExitStack() as stack:
        peers = {}
        for case, how in CASES.items():
            here = Path(sys.executable), PEERS / how["file"]
            peer = (
                peer_of(how["environment"], how["file"], threads=THREADS)
                if "environment" in how
                else Peer(*here, threads=THREADS)
            )
            if peer:
                peers[case] = stack.enter_context(peer)
        versions = {
            f"{name} of {case.split()[0]}": version
            for case, peer in peers.items()
            for name, version in peer.versions.items()
            if name != "torch"
        }
        report = Report(
            "rmd17",
            "Potentials on rMD17, at equal time",
            {
                "frames": "950 of split 01",
                "tested on": 1000,
                "seconds": options.seconds,
                "threads": THREADS,
                **versions,
            },
            notes=["peers as their packages set them by default, in our loop; none was tuned"],
        )
        report.notes += [f"{case} was left out: no environment" for case in CASES if case not in peers]
        for molecule in options.molecules:
            runs = {
                case: [trained(peer, case, molecule, seed, options) for seed in options.seeds]
                for case, peer in peers.items()
            }
            report.tables[f"{molecule}, {options.seconds} s"] = list(rows_of(runs))
            means = {case: statistics.mean(run["force"] for run in found) for case, found in runs.items()}
            best = min((found for case, found in means.items() if case != OURS), default=None)
            if best is not None:
                goal = f"force MAE of the best peer / ours, {molecule}"
                report.goals.append(Goal(goal, best / means[OURS], WANTED["accuracy"]))
        cases = {
            case: lambda case=case, peer=peer: peer.ask(
                "answer",
                what="time",
                molecule="ethanol",
                structures=STRUCTURES,
                seconds=2,
                settings=CASES[case]["settings"],
                threads=THREADS,
            )
            for case, peer in peers.items()
        }
        figures = in_turn(cases, options)
        report.tables[f"Energies and forces of {STRUCTURES} ethanols, ms"] = spread(figures, OURS, digits=1)
        fastest = min((ratio(figures, case, OURS) for case in figures if case != OURS), default=None)
        if fastest is not None:
            report.goals.append(Goal("time of the fastest peer / ours", fastest, WANTED["speed"]))
    write(report, options)


if __name__ == "__main__":
    main()
