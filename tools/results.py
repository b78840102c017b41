"""docs/experiments.md and its picture from docs/results/*.csv: python tools/results.py

The rows are written by `python -m minideeplab experiment NAME`; nothing is computed here but means, intervals and verdicts.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from minideeplab.course.curves import intervals
from minideeplab.learn.ablations import EXPERIMENTS, HELD, MEASURES, SIZE
from minideeplab.learn.experiments import BATCH, RESULTS, Verdict, read, verdicts

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "experiments.md", ROOT / "docs" / "experiments.png"
READINGS = {  # what a table does not say by itself
    "activation": '"nothing" is no layer at all between depthwise and pointwise.',
    "residual": """Rates are those of learning. Without shortcuts the largest is the best of the three; larger ones were
not tried. "shortcuts" at 0.05 and 0.2 are shown, and stand in no claim.""",
    "equal-size": '"Inception, 3 segments" is the form of fig. 3, one size of window. Widths are 69, 42 and 29 channels.',
    "spectrum": '"1", "2", ... are segments; widths are 32, 42, 52, 64 and 80 channels, so that parameters are alike, to 7 %.',
    "hypothesis": """The share is what the best kernel with one spatial filter for each input channel carries of the
squared weight of the dense one. Trained kernels are nearer to such a kernel than random ones are, and most of a
trained kernel it does not carry.""",
    "decoder": """"bilinear" has no decoder. In mIoU the gain is as large within a pixel of a boundary as over all, not
larger. Where the pixels lie that it wins is another question: of a hundred pixels it wins 2.6 within
4 of a boundary; farther off at most 0.2, and whether any is undecided. Of what is wrong without a decoder 92 to 94 percent lie
within 4, too. These two claims were written before they were counted, and after one run in notebook 12 had suggested them.""",
    "channels": """The map has 24 channels, which "24" mixes and "no reduction" hands on as they are. That 8 are better
than 24 was the claim; that 24 are better than all others was not asked beforehand.""",
    "separable": """Of the margin of 0.02 nothing is shown. Within a pixel of a boundary the whole interval lies below
zero: there the separable heads are worse.""",
    "gridding": """Of these fields rates 2, 2, 2 read 29 % and 1, 2, 3 all; 2, 2, 4 read 28 % and 1, 2, 5 all; 2, 4, 8
read 27 % and 3, 4, 7 43 %.""",
    "heads": """RefineNet learned at a rate of 0.02: at 0.1, the others' rate, its loss is soon
nan (a trial on 60 of these pictures, three seeds), and the others learn less at 0.02 (200 steps, one seed).
Equal training is not equal cost: 3.8 to 66 million MACs. DeepLabV3's ASPP has separable branches here, fig. 5's are
dense; PSPNet's 6 x 6 means are those of a 5 x 5 map. On 65 pixels the encoder's last map is 5 x 5, and a cell of it
sees the whole picture before any head does.""",
    "hybrid": """"hybrid" is `HybridHead` in `learn/small_networks.py`, the worked answer in notebook 13. Its claims were
written before these runs, and after a trial of 100 steps with three seeds on other pictures.""",
}
HEAD = """# The papers' ablations, in small

Every claim here was asked of networks of 0.03 to 0.9 million parameters, trained for some hundred steps of {batch}
pictures of {size} x {size} pixels (`minideeplab.learn.data.Shapes`: discs, rods, boxes), and measured on {held}
others. A verdict follows a rule that was written before the runs: *reproduced in trend* where the 95 % interval of
the paired differences over the seeds lies on the claimed side of zero, *contradicted* where it lies on the other,
*undecided* where it holds zero. That one arm is as good as another is reproduced where the interval lies within the
margin named, contradicted where it lies outside, and undecided where it lies across an end of it, even if one of the
two is worse all along it.

Such networks and pictures can show that an effect exists where they are; they cannot say how large it is on PASCAL
VOC, and what needs depth, data or time does not show. Intervals are of each claim alone, and of twenty claims without
any effect one would be decided by chance. Nor are claims independent: *decoder*, *8* (channels), *2*
(structure), *separable*, *image pooling*, *16* (output-stride) and *DeepLabV3+* are one network and the same five seeds,
which run anew came out alike to the last digit; *bilinear* and *DeepLabV3* are another, and *U-Net* stands in two
experiments. The networks and their rate were chosen in trials on these {held} pictures, with one seed.

Words: an *arm* is one of the networks compared; a *seed* decides its first weights and what it sees, and arms are
compared seed by seed (*paired*). *mIoU within 1 pixel* counts only pixels whose neighbor has another class. *Mean
training loss* is that of all steps, *pixels wrong* is a share of all pixels; of both less is better, and their differences are
turned round, so that above zero always speaks for the arm that is named first.

{left}`python -m minideeplab experiment NAME -o docs/results` runs what that folder lacks, `python tools/results.py`
writes this page.

![{alt}](experiments.png)
"""


def main() -> int:
    parts, judged = [], list[tuple[str, Verdict]]()
    for name, experiment in EXPERIMENTS.items():
        rows = read(RESULTS / f"{name}.csv")
        if not rows:
            continue
        found = list(verdicts(name, rows))
        judged += [(name, verdict) for verdict in found]
        lines = [
            f"| {verdict.claim.text()} | {verdict.mean:+.3f} ({verdict.low:+.3f} to {verdict.high:+.3f}) | "
            f"{verdict.word}{' in trend' if verdict.word == 'reproduced' else ''} |"
            for verdict in found
        ]
        parts.append(
            "\n".join(
                [
                    f"\n## {name}: {experiment.question}\n",
                    f"Source: {experiment.source}. {provenance(rows)}\n",
                    arms(rows),
                    "",
                    *([READINGS[name], ""] if name in READINGS else []),
                    "| claim | mean difference (95 % interval) | verdict |",
                    "|---|--:|---|",
                    *lines,
                    "",
                ]
            )
        )
    if not parts:
        print(f"{RESULTS} holds no results: run python -m minideeplab experiment NAME", file=sys.stderr)
        return 1
    counts = {word: sum(verdict.word == word for _, verdict in judged) for word in ("reproduced", "undecided", "contradicted")}
    missing = ", ".join(name for name in EXPERIMENTS if not read(RESULTS / f"{name}.csv"))
    left = f"Not run yet: {missing}.\n\n" if missing else ""
    counted = ", ".join(f"{count} {word}" for word, count in counts.items())
    alt = f"Of {len(judged)} claims {counted}: the mean difference of each and its interval"
    points = [(f"{name}: {v.claim.text()}", v.mean, v.low, v.high, v.word) for name, v in judged]
    figure, _ = intervals(points)
    figure.savefig(PICTURE, dpi=110)
    page = HEAD.format(batch=BATCH, size=SIZE, held=HELD, alt=alt, left=left) + "".join(parts)
    PAGE.write_text(page, encoding="utf-8")
    return 0


def provenance(rows: Sequence[Mapping[str, str]]) -> str:
    def known(column: str) -> str:
        return ", ".join(sorted({row[column] for row in rows}))

    return f"{known('steps')} steps; commit {known('commit')}, {known('date')}, {known('hardware')}."


def arms(rows: Sequence[Mapping[str, str]]) -> str:
    """A line an arm: its size, and the mean of each measure with the smallest and the largest of its seeds."""
    shown = [measure for measure in MEASURES if any(row[measure] for row in rows)]
    shown = ["share"] if "share" in shown else shown  # of kernels, some of which were never trained
    lines = [
        "| arm | seeds | parameters | MACs | "
        + " | ".join(f"{MEASURES[measure]}: mean (least to most)" for measure in shown)
        + " |",
        "|---|--:|--:|--:|" + "--:|" * len(shown),
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        cells = []
        for measure in shown:
            values = [float(row[measure]) for row in mine if row[measure]]
            cells.append(f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "")
        size = f"{int(mine[0]['params']):,} | {int(mine[0]['macs']):,}"
        lines.append(f"| {arm.strip(', ') or 'as trained'} | {len(mine)} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
