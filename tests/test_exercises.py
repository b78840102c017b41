"""The exercise cards: each reference solution stands once, folded in its notebook, and passes the card's own check."""

import ast
import contextlib
import io
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def cards() -> list[tuple[Path, int]]:
    """Every card: its notebook and the number of its cell."""
    read = [(path, nbformat.read(path, as_version=4)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    return [(path, i) for path, nb in read for i, cell in enumerate(nb.cells) if "exercise" in cell.metadata.get("tags", [])]


def stub(path: Path, index: int) -> str:
    return nbformat.read(path, as_version=4).cells[index].source


def solution(path: Path, index: int) -> str:
    """The reference definition, from the folded block after the stub."""
    folded = nbformat.read(path, as_version=4).cells[index + 1].source
    return re.search(r"<summary>Solution</summary>\s*```python\n(.*?)```", folded, re.DOTALL)[1]


def with_definition(cell: str, definition: str) -> str:
    """The cell with its stub replaced by another definition of the same function."""
    function = next(node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef))
    lines = cell.splitlines()
    return "\n".join([*lines[: function.lineno - 1], definition, *lines[function.end_lineno :]])


@cache
def before(path: Path) -> dict[int, dict[str, object]]:
    """The names that the code cells before each card leave behind. What is not compared, such as times, is not run."""
    names: dict[str, object] = {"__name__": "__main__"}
    found = {}
    for index, cell in enumerate(nbformat.read(path, as_version=4).cells):
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            found[index] = dict(names)
        if cell.cell_type == "code" and "nbval-ignore-output" not in tags:
            expected = (Exception,) if "raises-exception" in tags else ()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(*expected):
                exec(compile(cell.source, path.name, "exec"), names)
    return found


def output(path: Path, index: int, source: str) -> str:
    """What the card prints, with `source` as its cell."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, path.name, "exec"), dict(before(path)[index]))
    return printed.getvalue()


@pytest.fixture(autouse=True)
def as_in_jupyter(monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setenv("MPLBACKEND", "Agg")


every_card = pytest.mark.parametrize(("path", "index"), [pytest.param(path, i, id=f"{path.stem}-{i}") for path, i in cards()])


@every_card
def test_the_folded_solution_passes_its_own_check(path, index):
    assert output(path, index, with_definition(stub(path, index), solution(path, index))).startswith("all ")


@every_card
def test_an_untouched_stub_is_not_marked_wrong(path, index):
    assert output(path, index, stub(path, index)).startswith("not tried yet")


@every_card
def test_a_wrong_answer_does_not_pass(path, index):
    wrong = re.sub(r"return None\b.*", "return -12345", stub(path, index))
    assert wrong != stub(path, index)
    assert not output(path, index, wrong).startswith("all ")
