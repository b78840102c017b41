"""The handout: what a class gets holds no output and no solution, and everything that it is to fill in."""

import html
import re
from pathlib import Path

import handout
import nbformat
import pytest

PATHS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def given(path: Path) -> nbformat.NotebookNode:
    return handout.handout(read(path))


def secrets(path: Path) -> list[str]:
    """What a notebook folds away, in pieces that would be recognized: answers, and lines of solutions that no hint gives."""
    text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    answers = re.findall(r"<summary>Answer</summary>(.*?)</details>", text, re.DOTALL)
    solutions = re.findall(r"<summary>Solution</summary>\s*```python\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for solution in solutions for line in solution.splitlines()]
    stubs = "\n".join(c.source for c in read(path).cells if "exercise" in c.metadata.get("tags", []))
    lines = [line for line in lines if len(line) > 12 and text.count(line) == 1 and line not in stubs]
    return [answer.strip() for answer in answers] + lines


def leaks(notebook: nbformat.NotebookNode, path: Path) -> list[str]:
    """Outputs and folded pieces that are still there."""
    outputs = [c.id for c in notebook.cells if c.get("outputs") or c.get("execution_count")]
    markdown = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    folded = re.findall(r"<summary>(?:Solution|Answer)</summary>", markdown)
    return outputs + folded + [piece for piece in secrets(path) if piece in markdown]


every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@every_notebook
def test_no_output_and_no_solution_is_left(path):
    assert len(secrets(path)) >= 3 + len([c for c in read(path).cells if "exercise" in c.metadata.get("tags", [])])
    assert leaks(given(path), path) == []


@every_notebook
def test_what_was_not_taken_out_would_be_noticed(path):
    assert len(leaks(read(path), path)) >= len(secrets(path)) + 3
    notebook = given(path)
    notebook.cells[-1].source += f"\n\n{secrets(path)[0]}"
    assert leaks(notebook, path) == secrets(path)[:1]


@every_notebook
def test_all_code_with_its_guesses_and_stubs_is_kept_as_it_was(path):
    before, after = (
        [(c.id, c.source, c.metadata) for c in nb.cells if c.cell_type == "code"] for nb in (read(path), given(path))
    )
    assert after == before
    tags = [tag for _, _, metadata in after for tag in metadata.get("tags", [])]
    assert "guess" in tags or "exercise" in tags


@every_notebook
def test_hints_questions_and_headings_are_kept_and_answers_leave_their_place(path):
    before, after = ("\n".join(c.source for c in nb.cells if c.cell_type == "markdown") for nb in (read(path), given(path)))
    for pattern in (r"<summary>Hint</summary>.*?</details>", r"^\*\*\d\.\*\*.*$", r"^#+ .*$", r"^\|.*$"):
        assert re.findall(pattern, after, re.DOTALL if "details" in pattern else re.MULTILINE) == re.findall(
            pattern, before, re.DOTALL if "details" in pattern else re.MULTILINE
        )
    assert after.count(handout.ROOM) == before.count("<summary>Answer</summary>") == 3


@every_notebook
def test_it_is_a_notebook_that_opens(path):
    nbformat.validate(given(path))


def test_nothing_is_taken_from_the_notebook_itself():
    notebook = read(PATHS[0])
    before = nbformat.writes(notebook)
    handout.handout(notebook)
    assert nbformat.writes(notebook) == before


def test_only_solutions_and_answers_are_taken_out():
    fold = "<details><summary>{0}</summary>\n\n{0} text\n\n</details>\n"
    left = handout.without_answers("Task.\n\n" + "".join(map(fold.format, ("Hint", "Solution", "More", "Answer"))) + "\nEnd.")
    assert [word for word in ("Task", "Hint text", "More text", "End") if word not in left] == []
    assert [word for word in ("Solution", "Answer text") if word in left] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return handout.build(tmp_path_factory.mktemp("handout") / "out", PATHS)


def test_the_page_for_paper_has_every_notebook_on_a_page_of_its_own_and_no_picture(built):
    text = built[-1].read_text(encoding="utf-8")
    assert re.findall(r'<article id="(\w+)">', text) == [path.stem for path in PATHS]
    assert "article { break-before: page; }" in text
    assert re.findall(r"<(?:img|script|iframe|link(?! rel=\"icon\"))\b|@import|url\(", text) == []


@every_notebook
def test_the_page_for_paper_has_the_same_content(path, built):
    text = built[-1].read_text(encoding="utf-8")
    (part,) = re.findall(rf'<article id="{path.stem}">.*?</article>', text, re.DOTALL)
    plain = "".join(html.unescape(re.sub(r"<[^>]+>", "", part)).split())
    assert [piece for piece in secrets(path) if len(piece) > 40 and "".join(piece.split()) in plain] == []
    for c in read(path).cells:
        if c.cell_type == "code":  # comments may have moved to a line of their own
            code = "\n".join(line for line in c.source.splitlines() if "#" not in line)
            assert all("".join(line.split()) in plain for line in code.splitlines())
    kinds = [tag for c in read(path).cells for tag in c.metadata.get("tags", []) if tag in ("guess", "exercise")]
    assert re.findall(r'<div class="code (guess|exercise)">', part) == kinds
    assert part.count('<p class="room">') == 3
    assert part.count("<details open>") == part.count("<details") == len(re.findall("<summary>Hint</summary>", part))


def test_the_photographs_that_the_notebooks_open_come_along(built):
    named = {name for path in PATHS for c in read(path).cells for name in re.findall(r'"(assets/[\w.]+)"', c.source)}
    assert named
    assert all((built[0].parent / name).is_file() for name in named)
