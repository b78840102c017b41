"""Execute the notebooks and write them back in one canonical form: `make notebooks`, `make notebooks NOTEBOOK=04`.

Executed twice, a notebook must come out byte for byte the same, so everything that is not the course's text is
normalized: kernel and language metadata, execution counts 1..n, adjacent pieces of one stream, timestamps, widget ids.
Cell ids, sources and tags are never touched. With --dry-run nothing is written: it only shows that the notebooks run.
"""

import argparse
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def find(names: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks whose names begin with one of `names`; all of them if there is none."""
    paths = [p for p in sorted(folder.glob("*.ipynb")) if not names or p.name.startswith(tuple(names))]
    if not paths:
        sys.exit(f"no notebook in {folder} begins with {' or '.join(names) or 'anything'}")
    return paths


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Clear all outputs and run every cell in a fresh kernel, from the notebooks' folder as in JupyterLab."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    options = {"timeout": 300, "kernel_name": "python3", "record_timing": False, "extra_arguments": ["--log-level=40"]}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()


def keep_numbers(new: NotebookNode, old: NotebookNode) -> None:
    """Where outputs are not compared, such as times, keep the old ones as long as their words are the same."""

    def words(outputs: list[NotebookNode]) -> list[str]:
        shown = [o.text if o.output_type == "stream" else {**o.get("data", {}), "image/png": ""} for o in outputs]
        return sorted(re.findall(r"[^\W\d]{3,}", json.dumps(shown, ensure_ascii=False)))  # not units, ms or s

    before = {cell.id: cell.outputs for cell in old.cells if "nbval-ignore-output" in cell.metadata.get("tags", [])}
    for cell in new.cells:
        if cell.id in before and words(before[cell.id]) == words(cell.outputs):
            cell.outputs = before[cell.id]


def merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with adjacent pieces of the same stream joined: how a kernel flushes is chance."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def normalize(notebook: NotebookNode) -> None:
    """Leave in the metadata only what readers and the gate use: tags, slide types, a picture's alt text and size."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count, cell.outputs = count, merged(cell.outputs)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "data" in output:
                output.data.pop("application/vnd.jupyter.widget-view+json", None)
                picture = {k: v for k, v in output.metadata.get("image/png", {}).items() if k in ("alt", "width", "height")}
                output.metadata = nbformat.from_dict({"image/png": picture} if picture else {})
    for cell in notebook.cells:
        kept = {k: cell.metadata[k] for k in ("slideshow", "tags") if cell.metadata.get(k)}
        cell.metadata = nbformat.from_dict(kept)


def write(notebook: NotebookNode, path: Path) -> None:
    """Replace the file in one step, so that an interrupted run leaves the old one."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n"
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8", newline="\n")
    scratch.replace(path)


def regenerate(path: Path, dry_run: bool = False) -> tuple[bool, str]:
    """Run one notebook; (it ran, one line to print)."""
    start, before = time.perf_counter(), path.read_bytes()
    notebook = nbformat.reads(before.decode("utf-8"), as_version=4)
    try:
        execute(notebook, path.parent)
    except CellExecutionError as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        return False, f"{path.name}: an error, so the file is left as it was\n{plain}"
    seconds = time.perf_counter() - start
    if dry_run:
        return True, f"{path.name:<50} ran in {seconds:5.1f} s"
    normalize(notebook)
    keep_numbers(notebook, nbformat.reads(before.decode("utf-8"), as_version=4))
    write(notebook, path)
    return True, f"{path.name:<50} ran in {seconds:5.1f} s, {'unchanged' if path.read_bytes() == before else 'rewritten'}"


def main() -> int:
    """Regenerate the notebooks named on the command line, two at a time; 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the beginnings of file names; all notebooks if there is none")
    parser.add_argument("--dry-run", action="store_true", help="execute and write nothing")
    options = parser.parse_args()
    paths = find(options.names)
    os.environ.update(ONE_THREAD)
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(regenerate, paths, [options.dry_run] * len(paths)))
    print("\n".join(line for _, line in results))
    return 0 if all(ran for ran, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
