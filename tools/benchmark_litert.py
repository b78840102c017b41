"""The shipped network beside LiteRT, which runs the authors' 8-bit file: python tools/benchmark_litert.py FILE.tflite

FILE: deeplabv3_mnv2_pascal_quant.tflite of github.com/google-coral/test_data at 104342d. In turns, on one thread, 513 x 513
bytes in, labels out (LiteRT's graph too ends with the resizing and the argmax). Twice, each in a fresh process: with the
C library's allocator as it is, and told to keep freed memory. Leave the machine alone meanwhile. The instruction set named is
torch's: ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 limit ours, and nothing limits LiteRT's.
"""

import argparse
import ctypes
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from benchmark import quartiles, seconds
from torch import Tensor, nn

from minideeplab import image, pretrained
from minideeplab.inference import optimize_for_inference
from minideeplab.learn.photo import TRAINED, read_photo

CAT = Path(__file__).parents[1] / "notebooks" / "assets" / "chelsea.png"
THRESHOLDS = (-3, 2**30), (-1, 2**31 - 1)  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, and more bytes than a map has


@torch.inference_mode()
def labels(net: nn.Module, pixels: Tensor) -> Tensor:
    return net(image.from_pixels(pixels)).argmax(1)


def litert(file: Path, pixels: Tensor) -> Callable[[], Tensor]:
    runtime = import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(file), num_threads=1)
    runtime.allocate_tensors()
    source, target = (details[0]["index"] for details in (runtime.get_input_details(), runtime.get_output_details()))

    def run() -> Tensor:
        runtime.set_tensor(source, pixels[None].numpy())
        runtime.invoke()
        return torch.from_numpy(runtime.get_tensor(target))

    return run


def table(file: Path, photo: Path, rounds: int, memory: str) -> None:
    torch.set_num_threads(1)
    if memory != "default" and not all(ctypes.CDLL(None).mallopt(*threshold) for threshold in THRESHOLDS):
        raise OSError("this C library has no such thresholds: freed memory cannot be kept")
    pixels, net = torch.from_numpy(np.array(read_photo(photo).resize((TRAINED, TRAINED)))), pretrained()
    nets = {"eager": net, "fast": optimize_for_inference(net)}
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        nets["fast, bfloat16"] = optimize_for_inference(net, dtype=torch.bfloat16)
    ways = {name: partial(labels, net, pixels) for name, net in nets.items()} | {"LiteRT, 8 bit": litert(file, pixels)}
    answers = [run() for run in ways.values()]  # a warm-up: weights are packed
    names, times = list(ways), {name: list[float]() for name in ways}
    for turn in range(rounds):
        for name in names if turn % 2 else names[::-1]:  # what a run leaves behind in the allocator and the caches meets others
            times[name].append(seconds(ways[name]))
    print(f"\nallocator: {memory}, load at the end {os.getloadavg()[0]:.1f}\n")
    print("| | ms | quartiles | of LiteRT's | quartiles | labels as eager |\n|---|--:|--:|--:|--:|--:|")
    for name, answer in zip(names, answers, strict=True):
        low, middle, high = (1000 * value for value in quartiles(times[name]))
        first, ratio, third = quartiles([a / b for a, b in zip(times[name], times[names[-1]], strict=True)])
        same = (answer == answers[0]).double().mean().item()
        print(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {ratio:.2f} | {first:.2f} to {third:.2f} | {same:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the authors' .tflite")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is run (default: 15)")
    parser.add_argument("--photo", type=Path, default=CAT, help="what to look at, squeezed to 513 x 513 (default: the cat)")
    options = parser.parse_args()
    try:
        versions = f"torch {torch.__version__}, LiteRT {metadata.version('ai-edge-litert')}"
    except metadata.PackageNotFoundError:
        parser.exit(2, "ai-edge-litert is not installed: pip install ai-edge-litert\n")
    print(f"{torch.backends.cpu.get_cpu_capability()}, {versions}, load {os.getloadavg()[0]:.1f}", flush=True)
    for memory in ("default", "freed memory kept"):
        with get_context("spawn").Pool(1) as process:
            process.apply(table, (options.file, options.photo, options.rounds, memory))


if __name__ == "__main__":
    main()
