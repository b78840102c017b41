"""The commands `train` and `evaluate`: a network learns shapes or photos, and is measured on others."""

import argparse
from pathlib import Path

import torch

from minideeplab.cli.arguments import Commands, add_command, note, whole
from minideeplab.cli.costs import print_json
from minideeplab.inference import keep_freed_memory
from minideeplab.learn.evaluate import evaluate
from minideeplab.learn.processes import device
from minideeplab.learn.run import run
from minideeplab.learn.start import data_of, opened, start
from minideeplab.learn.train import LARGEST_SIZE, MOST_STEPS

DATA = """

DATA is a folder in PASCAL VOC's layout, with the names of other classes in classes.txt; without it, shapes that are drawn.
FILE is what convert or train wrote, or the word shipped: the network that this package brings along."""
RUN = """ RUN gets
checkpoint.safetensors, log.csv, curves.png and weights.safetensors, which evaluate and segment read. Ctrl-C leaves a
checkpoint. Under torchrun (torchrun -m minideeplab train) the processes share each batch."""
NUMBERS = {  # the least and the most they may be, the default, and their help
    "steps": (1, MOST_STEPS, 1000, "of training (default: 1000)"),
    "size": (1, LARGEST_SIZE, None, "pixels of a crop (default: 65, of photos 513)"),
    "batch": (1, 4096, None, "crops a step (default: 8, of photos 16)"),
    "seed": (0, 10**6, 0, "of weights, order, crops (default: 0)"),
}


def run_train(arguments: argparse.Namespace) -> int:
    """`train [DATA] -o RUN`: the scores on stdout."""
    keep_freed_memory()
    torch.manual_seed(arguments.seed)
    begin = start(len(data_of(arguments.data, "train").classes), model=arguments.model, source=arguments.weights)
    if arguments.weights:
        note(f"loaded from {arguments.weights}: all but {', '.join(begin.fresh) or 'nothing'}")
    own = ("steps", "size", "batch", "seed", "rate", "resume", "frozen", "freeze_norm")
    try:
        scores, facts = run(begin, arguments.data, arguments.output, **{name: getattr(arguments, name) for name in own})
    except (KeyboardInterrupt, SystemExit):
        note(f"stopped: the same command with --resume goes on from {arguments.output}")
        raise
    if scores:
        print_json(facts | scores.facts()) if arguments.json else print(scores.text())
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """`evaluate [DATA] --weights FILE`: the scores on stdout."""
    keep_freed_memory()
    data = data_of(arguments.data, arguments.split)
    scores = evaluate(opened(arguments.weights).to(device()), data)
    facts = {"weights": arguments.weights, "images": len(data)} | scores.facts()
    print_json(facts) if arguments.json else print(scores.text())
    return 0


def add_commands(commands: Commands) -> None:
    """`train` and `evaluate`."""
    recipe = "VOC2012 --model deeplabv3plus-mobilenet_v2 --weights shipped --frozen-norm --size 257 -o voc"
    lines = f"-o run --steps 300\n{recipe}"
    learn = add_command(commands, run_train, "Train a network and measure it", lines, about=DATA + RUN)
    summary = "Measure a network: mIoU, accuracy, IoU by class, mIoU near boundaries"
    ask = add_command(commands, run_evaluate, summary, "--weights run/weights.safetensors", about=DATA)
    for parser in (learn, ask):
        parser.add_argument("data", type=Path, nargs="?", metavar="DATA", help="a folder (default: shapes)")
        parser.add_argument("--weights", metavar="FILE", required=parser is ask, help="to start from, or to measure")
        parser.add_argument("--json", action="store_true", help="one line for programs")
    ask.add_argument("--split", default="val", metavar="NAME", help="images listed in NAME.txt (default: %(default)s)")
    learn.add_argument("-o", "--output", type=Path, default=Path("run"), metavar="RUN", help="a folder (default: %(default)s)")
    learn.add_argument("--model", metavar="NAME", help="a DeepLab, as for cost (default: that of the weights, or a small one)")
    for name, (least, most, default, text) in NUMBERS.items():
        learn.add_argument(f"--{name}", type=whole(most, least=least), default=default, metavar="N", help=text)
    learn.add_argument("--rate", type=float, metavar="R", help="of learning, at first (default: 0.1, from weights 0.01)")
    learn.add_argument("--freeze", dest="frozen", action="append", choices=["backbone"], default=[], help="it stays as it is")
    learn.add_argument("--frozen-norm", dest="freeze_norm", action="store_true", help="batch norm of --weights stays as it is")
    learn.add_argument("--resume", action="store_true", help="go on from RUN's checkpoint")
