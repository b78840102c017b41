"""What the README tells a reader: its blocks run, print what stands below them, and its links lead somewhere."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/assets/*.md")])


def blocks(text: str) -> list[tuple[str, str]]:
    """Every python block, and the text block right below it, if there is one."""
    return re.findall(r"```python\n(.*?)```\s*(?:```text\n(.*?)```)?", text, re.DOTALL)


@pytest.mark.parametrize(
    ("code", "output"), blocks(README), ids=lambda block: block.splitlines()[0][:40] if block else "silent"
)
def test_a_block_prints_what_stands_below_it(code, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert printed.getvalue().rstrip() == output.rstrip()


def test_the_picture_is_the_one_that_the_block_draws(tmp_path, monkeypatch):
    """Drawn again, it has the same size; which pixel is gray depends on the fonts of the machine."""
    from matplotlib.image import imread

    monkeypatch.chdir(tmp_path)
    drawing = next(code for code, _ in blocks(README) if "journey.png" in code)
    exec(compile(drawing, "README.md", "exec"), {"__name__": "__main__"})
    assert imread(tmp_path / "journey.png").shape == imread(ROOT / "docs" / "journey.png").shape


def broken_links(page: Path, text: str) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if ":" not in target and not (page.parent / target.partition("#")[0]).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_link_to_nothing_is_noticed():
    assert broken_links(ROOT / "README.md", "[x](docs/nothing.md) [y](README.md) [z](https://example.org)") == [
        "docs/nothing.md"
    ]


def missing_tests(text: str) -> set[str]:
    """The tests that a page names and nobody wrote."""
    written = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    return set(re.findall(r"`(test_\w+)`", text)) - set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))


@pytest.mark.parametrize("page", ["deviations", "proofs"])
def test_every_test_that_a_page_names_exists(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert len(re.findall(r"`test_\w+`", text)) > 10
    assert missing_tests(text) == set()


def test_a_test_that_nobody_wrote_is_noticed():
    assert missing_tests("`test_that_nobody_wrote`") == {"test_that_nobody_wrote"}


def test_every_notebook_stands_in_the_course_table():
    linked = set(re.findall(r"\]\((notebooks/\w+\.ipynb)\)", README))
    assert linked == {path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")}
