"""tools/figures.py: the pictures of the notebooks at lecture size, each with its words."""

import base64
import importlib.util
import struct
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

TOOL = Path(__file__).parent.parent / "tools" / "figures.py"  # by its path: tests/figures.py has the same name
spec = importlib.util.spec_from_file_location("figures_tool", TOOL)
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)

SHOWN = """from matplotlib.figure import Figure
from minideeplab.course import show
show(Figure(figsize=(3, 2)), alt={alt!r})"""


def notebook(folder: Path, *sources: str) -> Path:
    path = folder / "42_answers.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


def size(png: bytes) -> tuple[int, int]:
    return struct.unpack(">II", png[16:24])


def test_pictures_are_drawn_at_twice_the_size_with_their_words_beside_them(tmp_path):
    path, out = notebook(tmp_path, SHOWN.format(alt="An empty one."), SHOWN.format(alt="Another, 16 × 9.")), tmp_path / "out"
    before = path.read_bytes()
    out.mkdir()
    (out / "42-3.png").write_text("of an earlier state with three pictures")
    (out / "41-1.png").write_text("of another notebook")
    assert figures.draw(path, out, 2) == [out / "42-1.png", out / "42-2.png"]
    assert sorted(file.name for file in out.iterdir()) == ["41-1.png", "42-1.png", "42-1.txt", "42-2.png", "42-2.txt"]
    assert [size(file.read_bytes()) for file in sorted(out.glob("42-*.png"))] == [(480, 320)] * 2  # 3 x 2 inches, 80 an inch
    assert (out / "42-2.txt").read_text(encoding="utf-8") == "Another, 16 × 9.\n"
    assert path.read_bytes() == before


def test_once_the_size_is_the_size_of_the_notebook(tmp_path):
    (file,) = figures.draw(notebook(tmp_path, SHOWN.format(alt="An empty one.")), tmp_path, 1)
    assert size(file.read_bytes()) == (240, 160)


def test_a_notebook_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "42-1.png").write_text("of an earlier state")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        figures.draw(notebook(tmp_path, SHOWN.format(alt="An empty one."), "1 / 0"), tmp_path, 2)
    assert (tmp_path / "42-1.png").read_text() == "of an earlier state"


def stored(alt: str) -> nbformat.NotebookNode:
    data = {"image/png": base64.b64encode(b"png").decode()}
    output = nbformat.v4.new_output("display_data", data=data, metadata={"image/png": {"alt": alt}})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("plot()", outputs=[output])])


def test_a_picture_without_words_is_refused():
    assert list(figures.pictures(stored("A picture."))) == [(b"png", "A picture.")]
    with pytest.raises(ValueError, match=r"a picture without alt text; .*'plot\(\)'"):
        list(figures.pictures(stored("")))


def test_every_picture_of_the_course_has_words():
    drawn = [alt for path in figures.find([]) for _, alt in figures.pictures(nbformat.read(path, as_version=4))]
    assert len(drawn) > 30
    assert all(len(alt.split()) > 3 for alt in drawn)
