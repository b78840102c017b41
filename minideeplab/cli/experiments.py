"""The command `experiment`: a claim of the papers, asked of small networks, seed by seed."""

import argparse
from pathlib import Path

from minideeplab.cli.arguments import Commands, add_command, note, whole
from minideeplab.cli.costs import print_json
from minideeplab.inference import keep_freed_memory
from minideeplab.learn.ablations import EXPERIMENTS
from minideeplab.learn.experiments import STEPS, run, verdicts


def run_experiment(arguments: argparse.Namespace) -> int:
    """`experiment NAME`: a line for each claim, or one object."""
    keep_freed_memory()
    experiment, file = EXPERIMENTS[arguments.name], arguments.output / f"{arguments.name}.csv"
    note(f"{experiment.question} ({experiment.source})")
    note(f"{len(experiment.arms)} arms, {arguments.seeds} seeds; results: {file}")
    try:
        rows = run(arguments.name, seeds=arguments.seeds, folder=arguments.output, steps=arguments.steps)
    except KeyboardInterrupt:
        note(f"stopped: the same command goes on from {file}")
        raise
    found = list(verdicts(arguments.name, [row for row in rows if row["steps"] == str(arguments.steps)]))
    if arguments.json:
        claims = [{"claim": v.claim.text(), "mean": v.mean, "interval": [v.low, v.high], "seeds": v.seeds, "verdict": v.word}
                  for v in found]
        print_json({"experiment": arguments.name, "rows": len(rows), "claims": claims})
        return 0
    for verdict in found:
        print(verdict.text())
    return 0


def add_commands(commands: Commands) -> None:
    """`experiment`."""
    names = "\n".join(f"  {name:<14}{experiment.question}" for name, experiment in EXPERIMENTS.items())
    ask = add_command(
        commands, run_experiment, "Ask small networks whether a claim of the papers holds", "decoder\nchannels --seeds 3",
        about=f"\n\nNAME is one of\n{names}\nHalf a minute an arm and seed. What FOLDER holds already is not run again.",
    )
    ask.add_argument("name", metavar="NAME", choices=list(EXPERIMENTS), help="an experiment")
    ask.add_argument("--seeds", type=whole(10**4, least=2), default=5, metavar="N", help="at least 2 (default: %(default)s)")
    ask.add_argument("--steps", type=whole(10**6), default=STEPS, metavar="N", help="of training (default: %(default)s)")
    folder = "where NAME.csv is written (default: %(default)s)"
    ask.add_argument("-o", "--output", type=Path, default=Path("results"), metavar="FOLDER", help=folder)
    ask.add_argument("--json", action="store_true", help="one line for programs")
