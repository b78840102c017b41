"""The notebooks print the same elsewhere: executed and compared as `make test` does, under other conditions (`make anywhere`).

Other conditions: the lesser instruction sets that PyTorch and oneDNN can be held to, and two threads instead of one; joined
by a plus they hold in one run. Each must first be seen to change something: a notebook that prints sums of floats in full is
made, green where it was executed, and has to turn red under the condition. One that changes nothing here is left out, and
said to be. `plain` is no condition at all: for the environment of another PyTorch (`make anywhere TORCH=2.4.1`).
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import torch
from regenerate import ONE_THREAD, execute

ROOT = Path(__file__).parents[1]
CONDITIONS = {
    "plain": {},
    "instructions": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "threads": {"OMP_NUM_THREADS": "2"},
}
WITNESS = """import torch

_ = torch.manual_seed(0)
answer = torch.nn.functional.conv2d(torch.randn(1, 16, 65, 65), torch.randn(16, 16, 3, 3))
[answer.sum().item(), torch.randn(300_000).sum().item(), torch.randn(100_000).exp().sum().item()]"""
NBVAL = "-q -n {} --dist loadscope -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout 300"


def surroundings(parts: list[str]) -> dict[str, str]:
    """The environment of `make test`, but for these conditions."""
    named = {name: value for name, value in os.environ.items() if name not in CONDITIONS["instructions"]} | ONE_THREAD
    return named | {name: value for part in parts for name, value in CONDITIONS[part].items()}


def same(parts: list[str], notebooks: Path, workers: int = 0) -> bool:
    """Whether every cell of a folder's notebooks prints what is written in it; silent without workers."""
    command = [sys.executable, "-m", "pytest", *NBVAL.format(workers).split(), f"--rootdir={ROOT}", str(notebooks)]
    done = subprocess.run(command, cwd=ROOT, env=surroundings(parts), capture_output=not workers, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"pytest could not run {notebooks}, status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def witness(folder: Path) -> None:
    """A notebook that prints sums of floats in full, executed here on one thread and with all instructions."""
    os.environ.update(surroundings(["plain"]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WITNESS)])
    execute(notebook, folder)
    nbformat.write(notebook, folder / "witness.ipynb")
    if not same(["plain"], folder):
        sys.exit("a sum of floats is another one when it is run again: nothing can be shown by it")


def main() -> int:
    """Run what the command line names, each argument once; 1 if a cell prints something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default, known = [name for name in CONDITIONS if name != "plain"], ", ".join(CONDITIONS)
    parser.add_argument("runs", nargs="*", default=default, help=f"{known}; or joined by +")
    runs, status, lines = parser.parse_args().runs, 0, []
    if unknown := {part for run in runs for part in run.split("+")} - CONDITIONS.keys():
        parser.error(f"there is no condition {' or '.join(sorted(unknown))}: choose from {known}")
    with tempfile.TemporaryDirectory(prefix="minideeplab-witness-") as scratch:
        witness(Path(scratch))
        for run in runs:
            start = time.perf_counter()
            parts = [part for part in run.split("+") if part == "plain" or not same([part], Path(scratch))]
            lines += [f"{part}: left out, it changes no sum of floats here" for part in run.split("+") if part not in parts]
            if parts:
                equal = same(parts, ROOT / "notebooks", workers=2)
                verdict = "every compared cell prints the same" if equal else "A CELL PRINTS SOMETHING ELSE"
                lines.append(f"{' + '.join(parts)}: {verdict}, {time.perf_counter() - start:.0f} s")
                status |= not equal
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"make anywhere: torch {torch.__version__} on {platform.machine()}, {capability}", *lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
