"""Runs the table of `ablations`, seed by seed, and judges what came out by a rule that was written before the run.

A claim is reproduced where the 95 % interval (Student's t) of the paired differences over the seeds lies on the claimed side of
zero, contradicted where it lies on the other, undecided where it holds zero. That an arm is as good as another is
reproduced where the interval lies within the margin that the claim names, contradicted where it lies outside.
"""

import csv
import datetime
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from minideeplab.checks import require_positive
from minideeplab.cost import profile
from minideeplab.learn.ablations import EXPERIMENTS, SIZE, Claim
from minideeplab.learn.batches import Kept
from minideeplab.learn.data import Shapes
from minideeplab.learn.train import train
from minideeplab.weights.replacement import replace_whole

RESULTS = Path(__file__).parents[2] / "docs" / "results"  #: of a checkout
STEPS, BATCH = 400, 16
PICTURES = 2000  # to learn from, for each seed others
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % for 2 to 10 seeds; the last for more
LOWER_IS_BETTER = ("mean_loss", "near", "far")
COLUMNS = (
    "arm", "seed", "steps", "params", "macs", "miou", "trimap1", "accuracy", "near", "far", "share", "mean_loss", "commit",
    "date", "hardware",
)


def run(name: str, *, seeds: int, folder: Path, steps: int = STEPS) -> list[dict[str, str]]:
    """Train every arm with every seed that `folder`/NAME.csv does not hold already; all its rows."""
    require_positive(seeds=seeds, steps=steps)
    if name not in EXPERIMENTS:
        raise ValueError(f"there is no experiment {name}: choose one of {', '.join(EXPERIMENTS)}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = read(folder / f"{name}.csv")
    known = {(row["arm"], row["seed"], row["steps"]) for row in rows}
    for seed in range(seeds):
        missing = {
            arm: it for arm, it in EXPERIMENTS[name].arms.items()
            if any((arm + look, str(seed), str(steps)) not in known for look in it.looks)
        }
        if not missing:
            continue
        data = Kept(Shapes(PICTURES, size=SIZE, seed=seed))
        for arm, (make, rate, looks) in missing.items():
            torch.manual_seed(seed)
            net = make()
            losses = train(net, data, steps=steps, batch=BATCH, size=SIZE, rate=rate, seed=seed, scales=(1.0, 1.0))
            report = profile(net, (1, 3, SIZE, SIZE))
            facts = {"seed": seed, "steps": steps, "params": report.params, "macs": report.macs} | origin()
            net.eval()
            for look, measure in looks.items():
                found = {"mean_loss": statistics.fmean(losses)} | measure(net, seed)
                texts = {key: f"{value:.6f}" for key, value in found.items()}
                rows.append({key: str(value) for key, value in ({"arm": arm + look} | facts | texts).items()})
            write(folder / f"{name}.csv", rows)
    return read(folder / f"{name}.csv")


def origin() -> dict[str, str]:
    """The commit, the day and the machine."""
    try:
        where = Path(__file__).parent
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=where, capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    hardware = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    return {"commit": commit, "date": str(datetime.date.today()), "hardware": hardware}


def committed(name: str) -> list[dict[str, str]]:
    """The rows that came with the checkout. FileNotFoundError for none: a wheel brings none, and `experiment` makes them."""
    if not (rows := read(file := RESULTS / f"{name}.csv")):
        raise FileNotFoundError(f"there is no {file}: python -m minideeplab experiment {name} -o {RESULTS} makes it")
    return rows


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a result, none if there is no file. ValueError for a file that is none."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        table, rows = csv.DictReader(lines, strict=True), list[dict[str, str]]()
        try:
            for row in table:
                if set(row) != set(COLUMNS) or None in row.values():
                    break
                rows.append(row)
            else:
                if set(table.fieldnames or COLUMNS) == set(COLUMNS):
                    return rows
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file}, line {table.line_num}, is no table: {error}; name another folder") from error
    raise ValueError(f"{file}, line {table.line_num}: a result has the columns {', '.join(COLUMNS)}; name another folder")


def write(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """All rows, whole or not at all."""
    with replace_whole(file, overwrite=True) as whole, whole.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


class Verdict(NamedTuple):
    """The mean of the paired differences (shares, 0 to 1), its 95 % interval, of how many seeds, and what the rule says."""

    claim: Claim
    mean: float
    low: float
    high: float
    seeds: int
    word: str

    def text(self) -> str:
        """A line for a reader, in hundredths: of mIoU these are called points.

        >>> judge(Claim("a", "b"), [0.02, 0.03, 0.04]).text()
        'reproduced    +3.0 (+0.5 to +5.5) points: "a" is better than "b" (mIoU)'
        """
        unit = "points" if self.claim.measure in ("miou", "trimap1") else "hundredths"
        bounds = [100 * value for value in (self.low, self.mean, self.high)]
        digits = 2 if min(map(abs, bounds)) < 0.05 else 1  # +0.0 would not say on which side of zero
        low, mean, high = (f"{value:+.{digits}f}" for value in bounds)
        return f"{self.word:<13}{mean:>5} ({low} to {high}) {unit}: {self.claim.text()}"


def verdicts(name: str, rows: Sequence[Mapping[str, str]]) -> Iterator[Verdict]:
    """One for every claim of which at least two seeds are there."""
    for claim in EXPERIMENTS[name].claims:
        better, worse = (
            {row["seed"]: float(row[claim.measure]) for row in rows if row["arm"] == arm}
            for arm in (claim.better, claim.worse)
        )
        sign = -1 if claim.measure in LOWER_IS_BETTER else 1
        differences = [sign * (better[seed] - worse[seed]) for seed in sorted(better.keys() & worse.keys())]
        if len(differences) > 1:
            yield judge(claim, differences)


def judge(claim: Claim, differences: Sequence[float]) -> Verdict:
    """What the rule says of the differences of at least two seeds.

    >>> judge(Claim("a", "b"), [0.02, 0.03, 0.04]).word, judge(Claim("a", "b"), [0.02, -0.03, 0.04]).word
    ('reproduced', 'undecided')
    >>> judge(Claim("a", "b", within=0.1), [0.02, 0.03, 0.04]).word
    'reproduced'
    """
    count, mean = len(differences), statistics.fmean(differences)
    reach = STUDENT[min(count, 10) - 2] * statistics.stdev(differences) / count**0.5
    low, high, least = mean - reach, mean + reach, 0.0 if claim.within is None else -claim.within
    most = claim.within if claim.within is not None else float("inf")
    inside, outside = low > least and high < most, high < least or low > most
    return Verdict(claim, mean, low, high, count, "reproduced" if inside else "contradicted" if outside else "undecided")
