"""The site, from the pages, notebooks and docstrings that are committed, into build/docs: `make docs`.

    python tools/build_site.py     lays out the pages in build/site, lets Sphinx make HTML of them, looks at what it made

The pages keep the places that they have in the checkout, so that most links need no change; README.md begins the site. Three
kinds of pages are written here, each from its one source: the course in order (from the openers and the closing tables of the
notebooks), the reference (from the docstrings, with the figures of docs/figures.md), and the lecturer's. Nothing is executed;
a warning is an error, and so is whatever tools/check_site.py finds in the HTML.
"""

import ast
import html
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import handout
import nbformat
import slides
from check_site import complaints
from regenerate import NOTEBOOKS

ROOT = NOTEBOOKS.parent
BUILT = ROOT / "build" / "docs"
WORK = ROOT / "build" / "site"  # the pages as Sphinx reads them, and what it remembers of them
SITE = ROOT / "docs" / "site"  # Sphinx's settings, style, and the words that only the site has
PACKAGE = ROOT / "minideeplab"
LINK = re.compile(r"(?P<code>```.*?```|(`+)[^`].*?\2)|(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)\)", re.DOTALL)
FILES = ("docs/*.md", "docs/*.png", "notebooks/assets/*", "minideeplab/weights/*.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")
LISTINGS = ("blocks", "networks")  # folders whose files are figures


# ---- links


def inside(page: str, to: str) -> str:
    """A link of a page as a path of the checkout."""
    return os.path.normpath(os.path.join(os.path.dirname(page), to)).replace(os.sep, "/")


def source_page(path: str) -> str:
    """The highlighted source of a module, where sphinx.ext.viewcode puts it."""
    return f"_modules/{path.removesuffix('.py').removesuffix('/__init__')}.html"


def rewritten(text: str, page: str) -> str:
    """Markdown of the checkout as Markdown of the site: links to sources, folders and the README lead to their pages."""
    back = os.path.relpath(".", os.path.dirname(page) or ".").replace(os.sep, "/")

    def moved(found: re.Match[str]) -> str:
        to = found["to"]
        if found["code"] or re.match(r"[a-z]+:|#", to):
            return found[0]
        path, _, anchor = to.partition("#")
        target = inside(page, path)
        if not (ROOT / target).exists():
            raise ValueError(f"{page} links {to}, and there is no {target}")
        if target.endswith(".py") or target == "docs/explorer.html":  # HTML that Sphinx does not make of a page
            place = source_page(target) if target.endswith(".py") else target
            return f'<a href="{back}/{place}">{found["text"]}</a>'
        if target == "README.md":
            target = "notebooks/course.md" if anchor == "the-course" else f"index.md#{anchor}".rstrip("#")
        elif (ROOT / target / "__init__.py").exists():
            target = f"api/{Path(target).name}.md"
        else:
            return found[0]
        return f"{found['picture']}[{found['text']}]({os.path.relpath(target, os.path.dirname(page) or '.')})"

    return LINK.sub(lambda found: found[0] if found["code"] else moved(found), text)


# ---- the course, from the notebooks


class Lesson(NamedTuple):
    """What a notebook says of itself: its opener, and the rows (claim, here, evidence) of its closing table."""

    name: str
    title: str
    claim: str
    outcomes: str
    builds_on: str
    minutes: int
    covers: str
    rows: list[str]


def lesson(notebook: Any, name: str) -> Lesson:
    """Read a notebook's first and last words. What is not there raises: the course page has a place for each."""
    opener = notebook.cells[0].source
    closing = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    patterns = {
        "title": r"^# (.+)$",
        "claim": r"\*\*(.+?)\*\*",
        "outcomes": r"^After this notebook you can\n\n((?:- .+\n(?:  .+\n)*)+)",
        "builds_on": r"^Builds on (.+?)[.;] ",
        "minutes": r"\b(\d+) minutes\b",
        "rows": r"^\| claim \| here \| evidence \|\n\|[-| ]+\|\n((?:\|.+\|\n?)+)",
    }
    found = {key: re.search(pattern, closing if key == "rows" else opener + "\n", re.MULTILINE | re.DOTALL if key == "claim" else re.MULTILINE) for key, pattern in patterns.items()}
    if missing := [key for key, match in found.items() if match is None]:
        raise ValueError(f"{name}.ipynb does not say its {', '.join(missing)}, as the others do")
    said = {key: " ".join(match[1].split()) if key != "outcomes" else match[1] for key, match in found.items() if match and key != "rows"}
    covers = re.search(r"\bCovers (.+?)\. The component", opener, re.DOTALL)
    rows = found["rows"][1].splitlines() if found["rows"] else []
    return Lesson(
        name, said["title"], said["claim"], said["outcomes"], said["builds_on"], int(said["minutes"]),
        " ".join(covers[1].split()) if covers else "", rows,
    )  # fmt: skip


def short_titles(readme: str) -> dict[str, str]:
    """Notebook -> its title in the README's table, such as `05 Xception`."""
    return {name: title for title, name in re.findall(r"\[(\d\d [^\]]+)\]\(notebooks/(\w+)\.ipynb\)", readme)}


def numbered(text: str, names: list[str]) -> str:
    """Numbers of notebooks as links to them."""
    by_number = {name[:2]: name for name in names}
    return re.sub(r"\b\d\d\b", lambda n: f"[{n[0]}]({by_number[n[0]]}.ipynb)" if n[0] in by_number else n[0], text)


def course_page(lessons: list[Lesson], titles: dict[str, str]) -> str:
    """The course in order: time, prerequisites, what a reader can do afterwards, and the claims that each notebook leaves."""
    names = [each.name for each in lessons]
    table = ["| notebook | builds on | minutes | claims |", "|---|---|---|---|"]
    parts = []
    for each in lessons:
        title = titles.get(each.name, f"{each.name[:2]} {each.title}")
        here = f"[{title}]({each.name}.ipynb)"
        builds = numbered(each.builds_on, names)
        table.append(f"| {here} | {builds} | {each.minutes} | [{len(each.rows)}](#{each.name.replace('_', '-')}) |")
        covers = f" Covers {each.covers}." if each.covers else ""
        parts.append(
            f"({each.name.replace('_', '-')})=\n## {title}\n\n**{each.claim}**\n\n{each.minutes} minutes; builds on {builds}.{covers} "
            f"[Open it]({each.name}.ipynb). Afterwards you can\n\n{each.outcomes}\n"
            "| it leaves the claim | here | evidence |\n|---|---|---|\n" + "\n".join(each.rows) + "\n"
        )
    minutes = sum(each.minutes for each in lessons)
    intro = (
        f"# The course in order\n\n{len(lessons)} notebooks, {minutes // 60} hours and {minutes % 60} minutes to study. Here they are read with the outputs that are "
        "committed; `make lab` runs them. What *exactly*, *in trend* and *not here* mean is said, for all claims in one table, on the page of "
        "[claims](../docs/claims.md).\n"
    )
    return "\n".join([intro, *table, "", *parts])


# ---- the reference, from the docstrings and docs/figures.md


def figures(table: str) -> dict[str, list[str]]:
    """Module -> the rows of docs/figures.md that name it, as Markdown lines (figure; where; seen in)."""
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        for module in re.findall(r"\.\./(minideeplab/[\w/]+\.py)\)", cells[1] if len(cells) == 3 else ""):
            found.setdefault(module, []).append(f"- {cells[0]}: {cells[1]}; seen in {cells[2]}")
    return found


def module_part(path: Path, rows: list[str], page: str) -> str:
    """One module: its figures, its listing where the listing is the figure, and everything public with its docstring."""
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    text = f"## {path.parent.name if path.stem == '__init__' else path.stem}\n\n"
    if rows:
        text += "Figures:\n\n" + rewritten("\n".join(rows), page) + "\n\n"
    if rows and path.parent.name in LISTINGS:
        place = os.path.relpath(path, WORK / "source" / "api").replace(os.sep, "/")
        name = path.relative_to(PACKAGE).as_posix()
        text += f"<details class=\"listing\"><summary>The listing, {name}</summary>\n\n```{{literalinclude}} {place}\n:language: python\n```\n\n</details>\n\n"
    return text + f"```{{eval-rst}}\n.. automodule:: {module}\n```\n"


def reference_pages() -> dict[str, str]:
    """Name -> page: one for each folder of the library, its modules in the order of the figures; one for the modules beside."""
    rows = figures((ROOT / "docs" / "figures.md").read_text(encoding="utf-8"))
    order = {module: place for place, module in enumerate(rows)}
    pages = {}
    for folder in [PACKAGE, *sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))]:
        modules = sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))
        modules.sort(key=lambda path: order.get(path.relative_to(ROOT).as_posix(), len(order)))
        name = folder.name
        about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        page = f"api/{name}.md"
        parts = [module_part(path, rows.get(path.relative_to(ROOT).as_posix(), []), page) for path in modules]
        title = "minideeplab" if folder == PACKAGE else f"minideeplab.{name}"
        pages[name] = f"# {title}\n\n{about}\n\n" + (public_names() if folder == PACKAGE else "") + "\n".join(parts)
    return pages


def public_names() -> str:
    """What `from minideeplab import ...` gives, each name a link to its description."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [(node.module, name.name) for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    links = [f"{{py:obj}}`{name} <{module}.{name}>`" for module, name in imports]
    return "`from minideeplab import` one of these: " + ",\n".join(links) + ".\n\n"


# ---- what Sphinx asks while it reads (docs/site/conf.py)


def plain_docstring(lines: list[str]) -> None:
    """The library's docstrings as reStructuredText: prose with `code` and *emphasis*, indented formulas, lists, doctests."""
    if lines and lines[0].startswith("Alias for field number"):  # NamedTuple's own, which says nothing
        lines[:] = [""]
    out: list[str] = []
    doctest = False
    for line in lines:
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        after = out[-1] if out else ""
        if doctest or not line.strip():
            out.append(line)
        elif line.startswith("   "):  # a formula
            out += ([] if after.startswith("   ") else ["::", ""]) + [line]
        else:
            if re.match(r"(\d+\.|-) ", line) and after.strip() and not re.match(r"(\d+\.|-) ", after):
                out.append("")
            out.append(prose(line))
    lines[:] = out


def prose(line: str) -> str:
    """One line: code spans get their second backtick, whatever else reStructuredText would read as markup is taken as it is."""
    pieces = re.split(r"(`[^`]+`|(?<![\w*])\*\w[^*]*\w?\*(?![\w*]))", line)
    text = "".join(
        f"`{piece}`" if piece.startswith("`") else piece if number % 2 else re.sub(r"([\\*_|`])", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )
    return re.sub(r"(``[^`]+``)(?=\w)", r"\1\\ ", text)  # `number`th


def alt_texts(notebook: Any) -> list[str]:
    """The words of a notebook's pictures, in order, from the metadata of the outputs that are shown as pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = [output for output in outputs if "image/png" in output.get("data", {}) and "text/html" not in output.data]
    return [output.metadata.get("image/png", {}).get("alt", "") for output in drawn]


def describe_pictures(app: Any, doctree: Any) -> None:
    """Give every picture of a notebook its words: MyST-NB leaves them in the file."""
    from docutils import nodes

    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    outputs = [node for node in doctree.findall(nodes.container) if "cell_output" in node["classes"]]
    images = [image for output in outputs for image in output.findall(nodes.image)]
    for image, words in zip(images, alt_texts(nbformat.read(path, as_version=4)), strict=True):
        image["alt"] = words


# ---- files


def lay_out(target: Path) -> None:
    """Write the pages that Sphinx reads."""
    shutil.rmtree(target, ignore_errors=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT).as_posix(): path for pattern in FILES for path in sorted(ROOT.glob(pattern))}
    for name, path in pages.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (target / name).write_text(rewritten(path.read_text(encoding="utf-8"), name), encoding="utf-8")
        else:
            shutil.copy(path, target / name)
    titles, lessons = short_titles(readme), []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewritten(cell.source, f"notebooks/{path.name}")
        nbformat.write(notebook, target / "notebooks" / path.name)
        lessons.append(lesson(notebook, path.stem))
    reference = reference_pages()
    decks = "\n".join(f"| {titles.get(each.name, each.title)} | <a href=\"slides/{each.name}.html\">slides</a> | <a href=\"handout/{each.name}.ipynb\" download>notebook</a> |" for each in lessons)
    written = {"notebooks/course.md": course_page(lessons, titles)} | {f"api/{name}.md": text for name, text in reference.items()}
    written["lecture.md"] = (SITE / "lecture.md").read_text(encoding="utf-8").replace("@decks@", decks)
    contents = (SITE / "contents.md").read_text(encoding="utf-8")
    contents = contents.replace("@notebooks@", "\n".join(f"{titles.get(n.name, n.name[:2] + ' ' + n.title)} <notebooks/{n.name}>" for n in lessons))
    contents = contents.replace("@reference@", "\n".join(f"api/{name}" for name in reference))
    others = [name.removesuffix(".md") for name in pages if re.fullmatch(r"docs/\w+\.md", name)]
    contents = contents.replace("@others@", "\n".join(name for name in others if f"\n{name}\n" not in contents))
    welcome, ten, rest = rewritten(readme, "index.md").partition("## Ten lines")
    if not ten:
        raise ValueError("README.md has no section 'Ten lines', before which the site says what else it has")
    written["index.md"] = welcome + contents + "\n" + ten + rest
    for name, text in written.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")


def build(target: Path = BUILT) -> list[str]:
    """Make the site; what is wrong with it."""
    from sphinx.cmd.build import main as sphinx_build

    shutil.rmtree(target, ignore_errors=True)
    lay_out(WORK / "source")
    command = ["-q", "-E", "-W", "--keep-going", "-j", "2", "-c", str(SITE), "-d", str(WORK / "doctrees")]
    if status := sphinx_build([*command, str(WORK / "source"), str(target)]):
        return [f"Sphinx ended with status {status}"]
    shutil.copy(ROOT / "docs" / "explorer.html", target / "docs")
    slides.build(target / "slides")
    handout.build(target / "handout")
    return complaints(target)


def main() -> int:
    """Build, and say what there is; 1 if anything is wrong."""
    start = time.perf_counter()
    found = build()
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    pages, size = sum(path.suffix == ".html" for path in files), sum(path.stat().st_size for path in files) / 1e6
    print(f"{BUILT.relative_to(ROOT)}: {pages} pages, {size:.1f} MB, {len(found)} complaints; {time.perf_counter() - start:.0f} s")
    print("\n".join(found[:30]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
