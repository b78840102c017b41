"""Every picture of the notebooks at lecture size, its alt text beside it: `python tools/figures.py`, or `... 06 07`.

Writes build/figures/06-3.png and build/figures/06-3.txt for the third picture of notebook 06. The notebooks are executed again
with twice as many pixels an inch, so lines and letters are drawn and not enlarged; the notebooks themselves are not touched.
"""

import argparse
import base64
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from regenerate import ONE_THREAD, execute, find

OUT = Path(__file__).parents[1] / "build" / "figures"
LARGER = """
from matplotlib.figure import Figure
def larger(figure, file, *, dpi, savefig=Figure.savefig, **options):
    savefig(figure, file, dpi={times} * dpi, **options)
Figure.savefig = larger
"""


def pictures(notebook: NotebookNode) -> Iterator[tuple[bytes, str]]:
    """Every PNG of a notebook's outputs in order, with its alt text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                if not alt:
                    raise ValueError(f"a picture without alt text; show it with show(figure, alt=...): {cell.source[-80:]!r}")
                yield base64.b64decode(output.data["image/png"]), alt


def draw(path: Path, out: Path, times: int) -> list[Path]:
    """Execute one notebook with `times` as many pixels a side, and write its pictures in place of earlier ones."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LARGER.format(times=times)))
    execute(notebook, path.parent)
    drawn = list(pictures(notebook))
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{path.stem[:2]}-*"):
        old.unlink()
    files = [out / f"{path.stem[:2]}-{n}.png" for n in range(1, len(drawn) + 1)]
    for file, (png, alt) in zip(files, drawn):
        file.write_bytes(png)
        file.with_suffix(".txt").write_text(alt + "\n", encoding="utf-8")
    return files


def main(arguments: list[str] | None = None) -> int:
    """Draw the notebooks named on the command line, two at a time; 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the beginnings of file names; all notebooks if there is none")
    parser.add_argument("-o", "--out", type=Path, default=OUT, help="a folder; build/figures if not given")
    parser.add_argument("--times", type=int, default=2, choices=range(1, 9), metavar="N", help="pixels a side, 2 if not given")
    options = parser.parse_args(arguments)
    paths = find(options.names)
    os.environ.update(ONE_THREAD)
    failed = False
    with ProcessPoolExecutor(2) as pool:
        for path, job in [(path, pool.submit(draw, path, options.out, options.times)) for path in paths]:
            try:
                print(f"{path.name:<50} pictures: {len(job.result())}, in {options.out}")
            except (CellExecutionError, ValueError) as error:
                failed = True
                print(f"{path.name}: {error}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
