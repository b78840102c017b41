"""The site, from the pages, notebooks and docstrings that are committed, into build/docs: `make docs`.

    python tools/build_site.py     lays out the pages in build/site, lets Sphinx make HTML of them, looks at what it made

The pages keep the places that they have in the checkout, so that most links need no change; README.md begins the site, and
tools/site_pages.py writes what no file says: the course in order and the reference. Decks and handout are built into it.
Nothing is executed; a warning is an error, and so is whatever tools/check_site.py finds in the HTML. What is committed is
packed beside the pages, so that a reader can run it.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import handout
import nbformat
import slides
from check_site import complaints
from site_pages import (
    ROOT,
    SOURCES,
    Lesson,
    course_page,
    lesson,
    mended,
    numbered,
    reference_pages,
    rewritten,
    short_titles,
    with_places,
)

BUILT = ROOT / "build" / "docs"
ARCHIVE = "minideeplab.zip"  # the repository, for those who want to run it
SITE = ROOT / "docs" / "site"  # Sphinx's settings, style, and the words that only the site has
FILES = [
    "docs/*.md",
    "docs/*.png",
    "notebooks/assets/*",
    "minideeplab/weights/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
]
SHOWN = (
    '*Shown as it was executed and compared.* [Run it](../index.md#run-it) · <a href="../slides/{name}.html">slides</a> · '
    '<a href="../handout/{name}.ipynb" download>without outputs and solutions</a>'
)
DECK = '| {title} | <a href="slides/{name}.html">slides</a> | <a href="handout/{name}.ipynb" download>notebook</a> |'


def filled(template: str, **lines: list[str]) -> str:
    """A text of docs/site with lines in its places, @name@."""
    text = (SITE / template).read_text(encoding="utf-8")
    for name, given in lines.items():
        text = text.replace(f"@{name}@", "\n".join(given))
    return text


def opened(notebook: nbformat.NotebookNode, said: Lesson, names: list[str]) -> nbformat.NotebookNode:
    """A notebook whose title has its number, whose prerequisites are links, and which says how it is run."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = rest.replace(f"Builds on {said.builds_on}", f"Builds on {numbered(said.builds_on, names)}")
    notebook.cells[0].source = f"# {said.name[:2]} {title[2:]}\n\n{SHOWN.format(name=said.name)}\n{rest}"
    notebook.metadata["myst"] = {"html_meta": {"description": re.sub(r"[*`]", "", said.claim)}}
    return notebook


def pages() -> dict[str, str]:
    """Path -> text of everything that Sphinx reads and that is not copied as it is."""
    copied = [path.relative_to(ROOT).as_posix() for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in copied if name.endswith(".md")}
    made = {name: with_places(rewritten(text, name)) for name, text in texts.items()}
    lessons, paths = [], sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        notebook, name = nbformat.read(path, as_version=4), f"notebooks/{path.name}"
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewritten(cell.source, name)
        lessons.append(lesson(notebook, path.stem))
        made[name] = nbformat.writes(opened(notebook, lessons[-1], [path.stem for path in paths]))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"\n- \*\*without Python, to read\*\*.*", "", readme)  # here it is
    titles = {each.name: f"{each.name[:2]} {each.title}" for each in lessons} | short_titles(readme)
    reference = {f"api/{name}": text for name, text in reference_pages().items()}
    made |= {f"{name}.md": text for name, text in reference.items()}
    made["notebooks/course.md"] = course_page(lessons, titles)
    made["explorer.md"] = filled("explorer.md")
    made["lecture.md"] = filled("lecture.md", decks=[DECK.format(title=titles[each.name], name=each.name) for each in lessons])
    named = re.findall(r"^docs/\w+$", filled("contents.md"), re.MULTILINE)
    contents = filled(
        "contents.md",
        notebooks=[f"{titles[each.name]} <notebooks/{each.name}>" for each in lessons],
        others=[name[:-3] for name in copied if re.fullmatch(r"docs/\w+\.md", name) and name[:-3] not in named],
        reference=list(reference),
    )
    welcome, picture, rest = rewritten(readme, "index.md").partition("\n![")
    return made | {"index.md": f"{welcome}\n{contents}{picture}{rest}"}


def lay_out(target: Path = SOURCES) -> None:
    """Write the pages that Sphinx reads, and lay beside them what they show."""
    shutil.rmtree(target, ignore_errors=True)
    for path in (path for pattern in FILES for path in sorted(ROOT.glob(pattern))):
        (target / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.relative_to(ROOT))
    for name, text in pages().items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")


def build(target: Path = BUILT) -> list[str]:
    """Make the site; what is wrong with it."""
    from sphinx.cmd.build import main as sphinx_build

    shutil.rmtree(target, ignore_errors=True)
    lay_out()
    command = ["-q", "-E", "-W", "--keep-going", "-j", "2", "-c", str(SITE), "-d", str(SOURCES.parent / "doctrees")]
    if status := sphinx_build([*command, str(SOURCES), str(target)]):
        return [f"Sphinx ended with status {status}"]
    for page in target.rglob("*.html"):
        page.write_text(mended(page.read_text(encoding="utf-8")), encoding="utf-8")
    explorer = (ROOT / "docs" / "explorer.html").read_text(encoding="utf-8")
    home = '<main>\n<p><a href="../index.html">minideeplab</a></p>'
    (target / "docs" / "explorer.html").write_text(explorer.replace("<main>", home, 1), encoding="utf-8")
    slides.build(target / "slides")
    (target / "slides" / "index.html").unlink()  # lecture.html is the list here
    handout.build(target / "handout")
    archive = ["git", "archive", "--format=zip", "--prefix=minideeplab/", f"--output={target / ARCHIVE}", "HEAD"]
    subprocess.run(archive, cwd=ROOT, check=True)
    return complaints(target)


def main() -> int:
    """Build, and say what there is; 1 if anything is wrong."""
    start = time.perf_counter()
    found = build()
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    count, size = sum(path.suffix == ".html" for path in files), sum(path.stat().st_size for path in files) / 1e6
    seconds = time.perf_counter() - start
    print(f"{BUILT.relative_to(ROOT)}: {count} pages, {size:.1f} MB, {len(found)} complaints; {seconds:.0f} s")
    print("\n".join(found[:30]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
