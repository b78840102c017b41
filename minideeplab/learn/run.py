"""A training from its start to its scores, as the command `train` runs it; every process of `torchrun` calls it alike."""

import os
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from minideeplab.learn.evaluate import Scores, evaluate, picture
from minideeplab.learn.processes import device
from minideeplab.learn.start import Start, data_of
from minideeplab.learn.train import train

RATE, LOADED_RATE = 0.1, 0.01  # from fresh weights, and from loaded ones; Chen's 0.007 is for 30,000 steps
SIZE, AUTHORS_SIZE = 65, 513  # pixels a side of a crop, of shapes and of photos
BATCH, AUTHORS_BATCH = 8, 16


def run(
    begin: Start, root: Path | None, out: Path, *, steps: int, batch: int | None = None, size: int | None = None,
    rate: float | None = None, seed: int = 0, resume: bool = False, frozen: tuple[str, ...] = (), freeze_norm: bool = False,
) -> tuple[Scores | None, dict[str, Any]]:
    """Train what `start` made, measure it on the split "val" and leave everything in the folder `out`; scores and facts.

    Without `root` it learns shapes as they are, else photos that are scaled, cut and mirrored. Another process prepares them.
    For shapes, whose layers are too small to share, torch is set to one thread: so the result does not depend on how many
    cores there are. None for scores in all processes but the first. `batch` and `size` have the authors' values for photos.
    `freeze_norm` keeps the batch norm that was loaded; what is fresh beside loaded weights learns its own. ValueError where
    nothing was loaded.
    """
    if freeze_norm and not begin.source:
        raise ValueError("frozen norms are those of loaded weights, and none were loaded: name some (--weights)")
    clock, data, held_out = monotonic(), data_of(root, "train", seed=seed), data_of(root, "val")
    params = sum(value.numel() for value in begin.net.parameters())
    description = f"{type(begin.net).__name__}, {len(data.classes)} classes, {params:,} parameters"
    labels = "\n".join(data.classes)
    if root is None and device().type == "cpu":
        torch.set_num_threads(1)
    losses = train(
        begin.net.to(device()), data, steps=steps, batch=batch or (AUTHORS_BATCH if root else BATCH),
        size=size or (AUTHORS_SIZE if root else SIZE), rate=(LOADED_RATE if begin.source else RATE) if rate is None else rate,
        seed=seed, out=out, resume=resume, frozen=frozen, freeze_norm=freeze_norm, fresh=begin.fresh if begin.source else (),
        scales=(0.5, 2.0) if root else (1.0, 1.0),
        workers=min(8, os.cpu_count() or 1) if device().type == "cuda" else 1,
        about={"minideeplab": description, "source": "train", "labels": labels, "network": begin.network},
    )
    if os.environ.get("RANK", "0") != "0":
        return None, {}
    trained = monotonic() - clock
    scores = evaluate(begin.net, held_out)
    drawn = picture(out / "curves.png", losses, scores)
    facts = {"run": str(out), "params": params, "fresh": begin.fresh, "steps": len(losses), "loss": losses[-1]}
    return scores, facts | {"seconds": round(trained, 1), "curves": drawn}
