"""Training as the authors of DeepLab train, in functions: the schedule, the loss, what decays, and a loop that can be killed.

What a step sees (which images, how they are cut, what dropout drops) is a pure function of the seed and the step. So a run
that was killed and resumed ends, on the CPU, with the weights of one that was not, bit by bit. The same call under `torchrun`
splits each batch among the processes. Sources: Chen 2017, section 4.1; Chen 2018, section 4; Howard 2017, section 3.2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from zlib import crc32

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from torch.utils.data import DataLoader

from minideeplab import weights
from minideeplab.checks import require_finite, require_kind, require_positive
from minideeplab.learn.batches import Batches, Data, Told, generator, heard
from minideeplab.learn.checkpoint import read_checkpoint, write_checkpoint
from minideeplab.learn.data import VOID
from minideeplab.learn.processes import deaf, leaving, processes, stop_requests
from minideeplab.weights.file_limits import check_bytes
from minideeplab.weights.replacement import replace_whole

LARGEST_SIZE, MOST_STEPS, MOST_PIXELS = 4096, 10**6, 2**26  # of a crop, of a run, of a batch: 800 MB of RGB
TELLING = ("names", "size", "seed")  # what `SegmentationFolder` and `Shapes` have, to tell data of one length apart
NORMS = nn.modules.batchnorm._BatchNorm  # of any dimension, synchronized or not


def poly(step: int, steps: int, *, rate: float, power: float = 0.9) -> float:
    """The authors' schedule, rate * (1 - step / steps) ** power: `rate` at step 0, nothing at the end.

    >>> [round(poly(step, 30_000, rate=0.007), 5) for step in (0, 15_000, 29_999)]
    [0.007, 0.00375, 0.0]
    """
    require_positive(steps=steps)
    require_finite(rate=rate, power=power)
    if not 0 <= step <= steps:
        raise ValueError(f"step must be from 0 to {steps}, got {step}")
    return float(rate * (1 - step / steps) ** power)


def parameter_groups(net: nn.Module, weight_decay: float = 4e-5) -> list[dict[str, Any]]:
    """What `SGD` takes: first the weights that decay, dense and 1 x 1 kernels, then those that do not.

    Depthwise kernels do not, having so few numbers ("very little or no weight decay", Howard 2017, section 3.2), nor do
    norms and biases; nor does U-Net's up-convolution, of which none of these papers speaks. Parameters that do not learn
    are in neither.
    """
    decaying, others = list[nn.Parameter](), list[nn.Parameter]()
    for part in net.modules():
        mixes = isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and not part.groups == part.in_channels > 1)
        for name, value in part.named_parameters(recurse=False):
            if value.requires_grad:
                (decaying if mixes and name == "weight" else others).append(value)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def loss(logits: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
    """Cross entropy, the mean over the pixels that are not void (255): (N, C, H, W) and (N, H, W), int64 -> ().

    Where all are void it is 0, and its gradient 0; `F.cross_entropy` says nan. `counted` divides by another number of pixels.
    """
    classes, largest = logits.shape[1], int(labels.masked_fill(labels == VOID, 0).max())
    if largest >= classes or labels.min() < 0:
        raise ValueError(f"labels are from 0 to {classes - 1} or {VOID}, got {int(labels.min())} to {largest}")
    total = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="sum")
    return total / (labels.ne(VOID).sum().clamp(min=1) if counted is None else counted)


def freeze_norms(net: nn.Module, *, but: Sequence[str] = ()) -> None:
    """Batch norm as in evaluation, its scale and shift fixed, while the rest learns: for batches too small for statistics.

    Those in the parts named by `but` learn: where nothing has been measured yet, there is nothing to keep.
    """
    for name, part in net.named_modules():
        if isinstance(part, NORMS) and not any(f"{name}.".startswith(f"{fresh}.") for fresh in but):
            freeze(part)


def freeze(part: nn.Module) -> None:
    """A part that learns nothing: neither weights nor running statistics change, and nothing is dropped."""
    part.eval().requires_grad_(False)


@contextmanager
def frozen_for_now(net: nn.Module) -> Iterator[None]:
    """What learned before learns afterwards: to be frozen is a matter of one call of `train`."""
    learned = [(value, value.requires_grad) for value in net.parameters()]
    try:
        yield
    finally:
        for value, learns in learned:
            value.requires_grad_(learns)


def train(
    net: nn.Module, data: Data, *, steps: int, batch: int, size: int, rate: float, seed: int = 0, out: Path | None = None,
    resume: bool = False, frozen: Sequence[str] = (), freeze_norm: bool = False, fresh: Sequence[str] = (),
    scales: tuple[float, float] = (0.5, 2.0), weight_decay: float = 4e-5, power: float = 0.9, save_every: float = 60.0,
    workers: int = 0, about: Mapping[str, str] | None = None,
) -> list[float]:
    """Train `net`, which answers (N, classes, H, W), on `batch` crops of `size` a step; the losses, one a step.

    `rate` falls as `poly` says, momentum is 0.9. `frozen` names parts of `net` that learn nothing, as "backbone";
    `freeze_norm` freezes batch norm everywhere but in the parts that `fresh` names. `workers` prepare images in processes
    of their own; the result does not depend on them. The network stays in training mode.
    `out` is a folder, made if missing: checkpoint.safetensors (every `save_every` seconds), log.csv (step, rate, loss), and
    at the end weights.safetensors with the header `about`. `resume` goes on from its checkpoint, if it has one.

    SIGINT and SIGTERM let the step end and write a checkpoint; then KeyboardInterrupt or SystemExit is raised. On CUDA it
    computes in bfloat16. Under `torchrun` all processes of all machines read one `out`, and the first one writes.
    ValueError for sizes that cannot be, and for a checkpoint of other settings; FileExistsError for a run that is not to
    be resumed; RuntimeError if the loss is no number.
    """
    settings = check_settings(
        net, data, steps=steps, batch=batch, size=size, rate=rate, seed=seed, frozen=list(frozen), freeze_norm=freeze_norm,
        fresh=list(fresh), scales=list(scales), weight_decay=weight_decay, power=power,
    )
    checkpoint = out / "checkpoint.safetensors" if out else None
    if checkpoint and checkpoint.exists() and not resume:
        raise FileExistsError(f"{out} holds a run already: resume it, or name another folder")
    if checkpoint:
        still = tuple(f"{name}." for name in frozen)
        moved = [value for name, value in net.named_parameters() if value.requires_grad and not name.startswith(still)]
        claimed = sum(value.nbytes for value in [*net.state_dict().values(), *moved])  # weights; momentum of what learns
        check_bytes(claimed, f"a checkpoint of this {type(net).__name__}")
    device = next(net.parameters()).device
    with frozen_for_now(net), stop_requests() as stop, processes(device) as (rank, ranks):
        if batch % ranks:
            raise ValueError(f"{ranks} processes cannot share a batch of {batch} evenly: make it a multiple of {ranks}")
        if ranks > 1 and device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        net.train()
        for name in frozen:
            freeze(net.get_submodule(name))
        if freeze_norm:
            freeze_norms(net, but=fresh)
        optimizer = SGD(parameter_groups(net, weight_decay), lr=rate, momentum=0.9)
        losses = read_checkpoint(checkpoint, net, optimizer, settings) if checkpoint and checkpoint.exists() else []
        model = DistributedDataParallel(net) if ranks > 1 else net
        batches = Batches(data, batch=batch, size=size, seed=seed, scales=scales, rank=rank, ranks=ranks)
        steps_left = range(len(losses), steps)
        loader = DataLoader(Told(batches), batch_size=None, sampler=steps_left, num_workers=workers, worker_init_fn=deaf)
        rates = [poly(step, steps, rate=rate, power=power) for step in range(steps)]
        kept = out if rank == 0 else None  # by the first process alone
        if kept:
            begin_log(kept, rates, losses)
        saved = monotonic()
        for images, labels in with_progress(heard(loader), len(losses), steps, rank):
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(generator(seed, 2, len(losses), rank).initial_seed())  # for dropout
                found, stopped = learn(model, optimizer, images.to(device), labels.to(device), rates[len(losses)], ranks, stop)
            losses.append(found)
            if kept:
                with (kept / "log.csv").open("a") as log:
                    log.write(row(len(losses), rates, losses))
            if kept and (stopped or len(losses) == steps or monotonic() - saved >= save_every):
                write_checkpoint(kept / "checkpoint.safetensors", net, optimizer, losses, settings)
                saved = monotonic()
            if stopped:
                raise leaving(stopped)
        if kept:
            weights.save(net.state_dict(), kept / "weights.safetensors", about=about, overwrite=True)
    return losses


def learn(
    model: nn.Module, optimizer: SGD, images: Tensor, labels: Tensor, rate: float, ranks: int, stop: Sequence[int],
) -> tuple[float, int]:
    """One step; the loss over all processes, and the number of the signal that asked one of them to stop, or 0.

    DistributedDataParallel averages the gradients of the processes, however many pixels count in each. So each divides its
    sum by the mean of these numbers, and void changes nothing.
    """
    counted, stopped = labels.ne(VOID).sum(), labels.new_tensor(max(stop, default=0))
    if ranks > 1:
        torch.distributed.all_reduce(counted)
        torch.distributed.all_reduce(stopped, torch.distributed.ReduceOp.MAX)
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        logits = model(images)
    value = loss(logits, labels, counted.clamp(min=1) / ranks)
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    if ranks > 1:
        torch.distributed.all_reduce(value := value.detach() / ranks)
    if not value.isfinite():
        raise RuntimeError(f"the loss is {value.item()}: try a smaller rate than {rate:.3g}, or look for a photo of NaN")
    return value.item(), int(stopped)


def check_settings(net: nn.Module, data: Data, **settings: Any) -> dict[str, Any]:
    """Raise if a run cannot be made of these; otherwise what a checkpoint says of them, as JSON knows it."""
    require_kind(nn.Module, net=net)
    if not len(data):
        raise ValueError("there is no image to learn from: the data are empty")
    require_positive(**{name: settings[name] for name in ("steps", "batch", "size")})
    require_finite(**{name: settings[name] for name in ("rate", "power")})
    for name, most in {"steps": MOST_STEPS, "size": LARGEST_SIZE}.items():
        if settings[name] > most:
            raise ValueError(f"{name} must be at most {most:,}, got {settings[name]:,}")
    if settings["batch"] * settings["size"] ** 2 > MOST_PIXELS:
        given = f"{settings['batch']:,} crops of {settings['size']:,} a side"
        raise ValueError(f"a batch has at most {MOST_PIXELS:,} pixels, got {given}: make it or its crops smaller")
    if settings["weight_decay"] < 0 or settings["seed"] < 0:
        raise ValueError(f"weight_decay and seed must be at least 0, got {settings['weight_decay']} and {settings['seed']}")
    parts = dict(net.named_children())
    if missing := [name for name in settings["frozen"] if name not in parts]:
        raise ValueError(f"{type(net).__name__} has no part {missing[0]!r}: frozen may name {', '.join(parts)}")
    keys = [f"{key}." for key in net.state_dict()]
    if missing := [name for name in settings["fresh"] if not any(key.startswith(f"{name}.") for key in keys)]:
        raise ValueError(f"{type(net).__name__} has no part {missing[0]!r}: fresh may name {', '.join(parts)}, or their parts")
    own = [value for name in TELLING if isinstance(value := getattr(data, name, None), int | str | list | tuple)]
    return settings | {"data": [type(data).__name__, len(data), list(data.classes), crc32(repr(own).encode())]}


def row(step: int, rates: Sequence[float], losses: Sequence[float]) -> str:
    """A line of the log: how many steps are done, the rate of the last and its loss."""
    return f"{step},{rates[step - 1]:.6g},{losses[step - 1]:.6g}\n"


def begin_log(out: Path, rates: Sequence[float], losses: Sequence[float]) -> None:
    """A new log.csv of the steps that the checkpoint holds: those behind it are run again."""
    out.mkdir(exist_ok=True)
    with replace_whole(out / "log.csv", overwrite=True) as whole:
        whole.write_text("step,rate,loss\n" + "".join(row(step + 1, rates, losses) for step in range(len(losses))))


def with_progress(batches: Iterable[Any], done: int, steps: int, rank: int) -> Iterable[Any]:
    """Batches, with a progress bar if standard error is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return batches
    bar: Iterable[Any] = tqdm(batches, initial=done, total=steps, unit="step", leave=False, disable=None if rank == 0 else True)
    return bar
