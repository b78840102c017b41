"""Break the library in known ways: each break must turn at least one notebook red (`make mutants`).

A notebook that stays green while the library is wrong teaches nothing about it. Each row below is applied to a copy of
the library and the notebooks, and the copy's notebooks are executed and compared as in `make test`, the expected
catcher first, up to the first red one. Exit status 1 if a break goes unseen, if its text is not found exactly once,
or if the unbroken copy is not green. With --all every notebook is run for every break.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    """One break: the text `old`, found exactly once in `minideeplab/file`, becomes `new`."""

    name: str
    catcher: str  # the beginning of the notebook that should notice first
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation("the kernel is flipped", "01", "blocks/convolution.py", "weight[o, c, u, v]", "weight[o, c, -1 - u, -1 - v]"),
]


def notebooks(first: str = "") -> list[str]:
    """The notebooks' names, those that begin with `first` leading."""
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    return sorted(names, key=lambda name: not (first and name.startswith(first)))


def copy(folder: Path) -> None:
    """The library and the notebooks, and the configuration that pytest runs under."""
    for part in ("minideeplab", "notebooks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def is_red(folder: Path, notebook: str) -> bool:
    """Execute and compare one notebook of the copy, against the copy's library."""
    options = "-q -x -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout 120"
    command = [sys.executable, "-m", "pytest", *options.split(), f"notebooks/{notebook}"]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"pytest could not run {notebook}, status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def red_notebooks(mutation: Mutation, every: bool) -> list[str]:
    """The notebooks that a break turns red; only the first unless `every`."""
    with tempfile.TemporaryDirectory(prefix="minideeplab-mutant-") as folder:
        copy(Path(folder))
        path = Path(folder, "minideeplab", mutation.file)
        path.write_text(path.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
        red: list[str] = []
        for notebook in notebooks(mutation.catcher):
            if (every or not red) and is_red(Path(folder), notebook):
                red.append(notebook)
        return red


def the_copy_is_what_runs() -> list[str]:
    """Unbroken, the copy is green; without its library it is red, so no other minideeplab is imported."""
    with tempfile.TemporaryDirectory(prefix="minideeplab-copy-") as folder, ThreadPoolExecutor(2) as pool:
        copy(Path(folder))
        reds = pool.map(is_red, [Path(folder)] * len(notebooks()), notebooks())
        found = [f"{name} is red before anything is broken" for name, red in zip(notebooks(), reds, strict=True) if red]
        (Path(folder) / "minideeplab" / "__init__.py").write_text("raise ImportError('the copy')\n", encoding="utf-8")
        greens = [name for name in notebooks("01")[:1] if not is_red(Path(folder), name)]
        return found + [f"{name} does not import the copy's library" for name in greens]


def not_once(mutation: Mutation) -> list[str]:
    """A complaint if the text to break is not there exactly once."""
    count = (ROOT / "minideeplab" / mutation.file).read_text(encoding="utf-8").count(mutation.old)
    return [] if count == 1 else [f"{mutation.name}: its text stands {count} times in {mutation.file}"]


def main() -> int:
    """Print one row per break; 1 if one goes unseen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only the breaks whose names contain one of these")
    parser.add_argument("--all", action="store_true", help="run every notebook for every break")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.words or any(word in m.name for word in options.words)]
    start, found = time.perf_counter(), [text for m in MUTATIONS for text in not_once(m)]
    if not notebooks():
        found.append("there are no notebooks")
    found = found or the_copy_is_what_runs()
    if not found:
        width = max(len(m.name) for m in chosen)
        print(f"{'mutation':<{width}} | notebooks turned red")
        with ThreadPoolExecutor(2) as pool:
            for mutation, red in zip(chosen, pool.map(red_notebooks, chosen, [options.all] * len(chosen)), strict=True):
                print(f"{mutation.name:<{width}} | {', '.join(red) or 'NONE'}", flush=True)
                found += [] if red else [f"{mutation.name}: no notebook noticed"]
    print("\n".join(found))
    print(f"make mutants: {len(chosen)} breaks, {len(found)} complaints, {time.perf_counter() - start:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
