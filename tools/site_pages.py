"""What the pages of the site say that is not written out anywhere: links, the course in order, the reference.

Each from its one source: openers and closing tables of the notebooks, docstrings, docs/figures.md. At the end, what Sphinx is
told about docstrings and pictures while it reads (docs/site/conf.py), and what is mended in its HTML. Writes no file.
"""

import argparse
import ast
import os
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from regenerate import NOTEBOOKS

ROOT = NOTEBOOKS.parent
SOURCES = ROOT / "build" / "site" / "source"  # the pages as Sphinx reads them
PACKAGE = ROOT / "minideeplab"
FOLDERS = ("blocks", "networks", "cost", "weights", "learn", "course", "cli")  # of the library, in the README's order
LISTINGS = ("blocks", "networks")  # folders whose files are figures
CODE = r"(?P<code>```.*?```|(`+)[^`].*?\2)"
LINK = re.compile(CODE + r"|(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)\)", re.DOTALL)
SAID = {  # what a notebook says of itself, in its opener and in its closing table
    "title": r"^# (.+)$",
    "claim": r"\*\*((?:.|\n)+?)\*\*",
    "outcomes": r"^After this notebook you can\n\n((?:- .+\n(?:  .+\n)*)+)",
    "builds_on": r"^Builds on (.+?)[.;] ",
    "minutes": r"\b(\d+) minutes\b",
    "rows": r"^\| claim \| here \| evidence \|\n\|[-| ]+\|\n((?:\|.+\|\n?)+)",
}


# ---- links


def source_page(path: str) -> str:
    """The highlighted source of a module, where sphinx.ext.viewcode puts it."""
    return f"_modules/{path.removesuffix('.py').removesuffix('/__init__')}.html"


def rewritten(text: str, page: str) -> str:
    """Markdown of the checkout as Markdown of the site: links to sources, folders and the README lead to their pages."""
    here = os.path.dirname(page) or "."

    def relative(path: str) -> str:
        return os.path.relpath(path, here).replace(os.sep, "/")

    def moved(found: re.Match[str]) -> str:
        if found["code"] or re.match(r"[a-z]+:|#", found["to"]):
            return found[0]
        path, _, anchor = found["to"].partition("#")
        target = os.path.normpath(os.path.join(here, path)).replace(os.sep, "/")
        if not (ROOT / target).exists():
            raise ValueError(f"{page} links {found['to']}, and there is no {target}")
        if target.endswith(".py"):  # no page that Sphinx reads: its own links would not find it
            return f'<a href="{relative(source_page(target))}">{found["text"]}</a>'
        if target == "docs/explorer.html":
            return f'<a href="{relative(target)}">{found["text"]}</a>'
        if target == "README.md":
            target = "notebooks/course.md" if anchor == "the-course" else f"index.md#{anchor}".rstrip("#")
        elif (ROOT / target / "__init__.py").exists():
            target = f"api/{Path(target).name}.md"
        elif target.endswith(".md") and found["text"].strip("`") == found["to"]:  # a file's name; here it is a page
            return f"[{heading(target)}]({found['to']})"
        else:
            return found[0]
        return f"{found['picture']}[{found['text']}]({relative(target)})"

    return LINK.sub(moved, text)


def heading(page: str) -> str:
    """The title of a page of Markdown."""
    return next(line[2:] for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("# "))


def with_places(text: str) -> str:
    """`[06](... .ipynb), "A heading"`, as glossary and lecture say it: on the site the heading is a place of its own."""

    def place(found: re.Match[str]) -> str:
        notebook = nbformat.read(NOTEBOOKS / Path(found["to"]).name, as_version=4)
        if f"## {found['heading']}" not in "\n".join(cell.source for cell in notebook.cells).splitlines():
            return found[0]  # the title of the notebook, or none of its headings: the page itself
        anchor = re.sub(r"[^\w\- ]", "", found["heading"].lower()).replace(" ", "-")
        return f'[{found["number"]}, "{found["heading"]}"]({found["to"]}#{anchor})'

    return re.sub(r'\[(?P<number>\d\d)\]\((?P<to>[^)\s]+\.ipynb)\), "(?P<heading>[^"\n]+)"', place, text)


# ---- the course, from the notebooks


class Lesson(NamedTuple):
    """What a notebook says of itself; `rows` are the lines of its closing table (claim, here, evidence)."""

    name: str
    title: str
    claim: str
    outcomes: str
    builds_on: str
    minutes: int
    covers: str
    rows: list[str]


def lesson(notebook: Any, name: str) -> Lesson:
    """Read a notebook's opener and closing table. What is not there raises: the course page has a place for each."""
    opener = notebook.cells[0].source + "\n"
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    said = {key: re.search(SAID[key], text if key == "rows" else opener, re.MULTILINE) for key in SAID}
    if missing := [key for key, found in said.items() if found is None]:
        raise ValueError(f"{name}.ipynb does not say its {', '.join(missing)}, as the others do")
    outcomes, rows = (found[1] for key in ("outcomes", "rows") if (found := said.pop(key)))
    words = {key: " ".join(found[1].split()) for key, found in said.items() if found}
    covers = re.search(r"\bCovers ((?:.|\n)+?)\. The component", opener)
    return Lesson(
        name, words["title"], words["claim"], outcomes, words["builds_on"], int(words["minutes"]),
        " ".join(covers[1].split()) if covers else "", rows.splitlines(),
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
    table, parts = ["| notebook | builds on | minutes | claims |", "|---|---|---|---|"], []
    for each in lessons:
        title, label = titles.get(each.name, f"{each.name[:2]} {each.title}"), each.name.replace("_", "-")
        builds = numbered(each.builds_on, [other.name for other in lessons])
        table.append(f"| [{title}]({each.name}.ipynb) | {builds} | {each.minutes} | [{len(each.rows)}](#{label}) |")
        covers = f" Covers {each.covers}." if each.covers else ""
        rows = "\n".join(each.rows)
        parts.append(
            f"({label})=\n## {title}\n\n**{each.claim}**\n\n{each.minutes} minutes; builds on {builds}.{covers} "
            f"[Open it]({each.name}.ipynb). Afterwards you can\n\n{each.outcomes}\n"
            f"| it leaves the claim | here | evidence |\n|---|---|---|\n{rows}\n"
        )
    hours, minutes = divmod(sum(each.minutes for each in lessons), 60)
    intro = (
        f"# The course in order\n\n{len(lessons)} notebooks, {hours} hours and {minutes} minutes to study. They are shown "
        "with the outputs that are committed; `make lab` runs them. What *exactly*, *in trend* and *not here* mean stand "
        "above the table of all [claims](../docs/claims.md).\n"
    )
    return "\n".join([intro, *table, "", *parts])


# ---- the reference, from the docstrings and docs/figures.md


def figures(table: str) -> dict[str, list[str]]:
    """Module -> the rows of docs/figures.md that name it, as Markdown: figure, where, seen in."""
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        for module in re.findall(r"\.\./(minideeplab/[\w/]+\.py)\)", cells[1] if len(cells) == 3 else ""):
            found.setdefault(module, []).append(f"- {cells[0]}: {cells[1]}; seen in {cells[2]}")
    return found


def dotted(path: Path) -> str:
    """The name under which Python imports a file of the library."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_part(path: Path, rows: list[str], page: str, level: int = 2) -> str:
    """One module: its figures, its listing where the listing is the figure, and all that has a docstring, with it."""
    text = f"{'#' * level} {path.stem}\n\n"
    if rows:
        text += "Figures:\n\n" + rewritten("\n".join(rows), page) + "\n\n"
    if rows and path.parent.name in LISTINGS:
        place = os.path.relpath(path, SOURCES / "api").replace(os.sep, "/")
        text += f"<details><summary>The listing, {path.relative_to(PACKAGE).as_posix()}</summary>\n\n"
        text += f"```{{literalinclude}} {place}\n:language: python\n```\n\n</details>\n\n"
    return text + f"```{{eval-rst}}\n.. automodule:: {dotted(path)}\n```\n"


def exported(folder: Path) -> list[tuple[str, str]]:
    """(module, name) of what a package hands out under its own name."""
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    return [(node.module or "", name.name) for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]


@cache
def described() -> dict[str, list[tuple[str, str]]]:
    """Name -> (module, first line of the docstring) of every class and function without an underscore."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.glob("**/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                about = (ast.get_docstring(node) or "").partition("\n")[0]
                found.setdefault(node.name, []).append((dotted(path), about))
    return found


def public_names(folder: Path) -> str:
    """What a package hands out: each name a link to its description, and what that begins with."""
    lines = []
    for module, name in exported(folder):
        about = next((about for home, about in described().get(name, []) if home == module), "")
        lines.append(f"- {{py:obj}}`{name} <{module}.{name}>`" + (f": {about}" if about else ""))
    return f"`from {dotted(folder / '__init__.py')} import` has these names:\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def public_modules() -> set[str]:
    """Those that CONTRIBUTING names, and the homes of what the packages hand out."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = contributing.partition("## What is public")[2].partition("\n\n**")[0]
    packages = [path.parent for path in PACKAGE.glob("**/__init__.py")]
    return set(re.findall(r"`(minideeplab[\w.]*)`", section)) | {m for folder in packages for m, _ in exported(folder)}


def commands() -> Iterator[tuple[str, str]]:
    """Every command of the command line, and what its `--help` says."""
    from minideeplab.cli.parser import parser

    os.environ["COLUMNS"] = "100"
    top = parser()
    yield "minideeplab", top.format_help()
    (group,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in group.choices.items():
        yield name, command.format_help()


def command_page() -> str:
    """The command line, as it describes itself."""
    parts = [f"## {name}\n\n```text\n{text.strip()}\n```\n" for name, text in commands()]
    return "# The command line\n\n" + "\n".join(["What `--help` says, command by command.\n", *parts])


def folder_page(folder: Path, rows: dict[str, list[str]]) -> str:
    """A folder of the library: the names it hands out, its public modules in the order of the figures, then the others."""
    order, page = {module: place for place, module in enumerate(rows)}, f"api/{folder.name}.md"
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    text = f"# {dotted(folder / '__init__.py')}\n\n{about}\n\n{public_names(folder)}"
    paths = [(path.relative_to(ROOT).as_posix(), path) for path in sorted(folder.glob("*.py")) if path.stem[0] != "_"]
    paths.sort(key=lambda pair: order.get(pair[0], len(order)))
    inside = [pair for pair in paths if dotted(pair[1]) not in public_modules()]
    for name, path in (pair for pair in paths if pair not in inside):
        text += module_part(path, rows.get(name, []), page) + "\n"
    if inside:
        text += "## Inside\n\nNot public: what follows may move without a word "
        text += "([what is public](../CONTRIBUTING.md#what-is-public)).\n\n"
    return text + "\n".join(module_part(path, rows.get(name, []), page, level=3) for name, path in inside)


def reference_pages() -> dict[str, str]:
    """Name -> page: the public names and the modules beside the folders, then a folder each."""
    rows = figures((ROOT / "docs" / "figures.md").read_text(encoding="utf-8"))
    pages = {"minideeplab": folder_page(PACKAGE, rows).replace("# minideeplab\n", "# The reference\n", 1)}
    return pages | {name: folder_page(PACKAGE / name, rows) if name != "cli" else command_page() for name in FOLDERS}


# ---- what Sphinx is told while it reads


def prose(line: str) -> str:
    """One line: code spans get their second backtick, and what else reStructuredText would read as markup is text."""
    pieces = re.split(r"(`[^`]+`|(?<![\w*])\*\w[^*]*\w?\*(?![\w*]))", line)
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pieces[number] = re.sub(r"([\\*_|`])", r"\\\1", piece)
        elif piece.startswith("`"):  # a letter may follow: the `number`th
            homes = described().get(piece[1:-1], [])
            shown = f":py:obj:`{piece[1:-1]} <{homes[0][0]}.{piece[1:-1]}>`" if len(homes) == 1 else f"`{piece}`"
            pieces[number] = shown + ("\\ " if re.match(r"\w", pieces[number + 1]) else "")
    return "".join(pieces)


def plain_docstring(lines: list[str]) -> None:
    """The library's docstrings as reStructuredText: prose with `code` and *emphasis*, lists, indented formulas, doctests."""
    out, doctest = list[str](), False
    for line in lines:
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        before = out[-1] if out else ""
        if doctest or not line.strip():
            out.append(line)
        elif line.startswith("   "):
            out += [line] if before.startswith("   ") else ["::", "", line]
        else:
            item = r"(\d+\.|-) "
            out += [""] if re.match(item, line) and before.strip() and not re.match(item, before) else []
            out.append(prose(line))
    lines[:] = out


def says_nothing(thing: Any) -> bool:
    """A field of a named tuple without a docstring of its own: the signature has its name and type."""
    return (getattr(thing, "__doc__", None) or "").startswith("Alias for field number")


def alt_texts(notebook: Any) -> list[str]:
    """The words of a notebook's pictures, in order, from the metadata of the outputs that are shown as pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = [output for output in outputs if "image/png" in output.get("data", {}) and "text/html" not in output.data]
    return [output.metadata.get("image/png", {}).get("alt", "") for output in drawn]


def describe_pictures(app: Any, doctree: Any) -> None:
    """Give every picture of a notebook its words: MyST-NB leaves them in the file."""
    from docutils import nodes

    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        outputs = [node for node in doctree.findall(nodes.container) if "cell_output" in node["classes"]]
        images = [image for output in outputs for image in output.findall(nodes.image)]
        for image, words in zip(images, alt_texts(nbformat.read(path, as_version=4)), strict=True):
            image["alt"] = words


CHINESE = re.compile("[\u3400-\u9fff](?:[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]|[ /](?=[\u3400-\u9fff]))*")


def mark_chinese(app: Any, doctree: Any) -> None:
    """Say of Chinese words that they are: a page reader then reads them as such. docutils makes lang="zh" of the class."""
    from docutils import nodes

    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, nodes.FixedTextElement | nodes.raw | nodes.literal) or not CHINESE.search(text):
            continue
        parts, end = [], 0
        for found in CHINESE.finditer(text):
            parts += [nodes.Text(text[end : found.start()]), nodes.inline(found[0], found[0], classes=["language-zh"])]
            end = found.end()
        text.parent.replace(text, [part for part in [*parts, nodes.Text(text[end:])] if part.astext()])


# ---- HTML that axe-core would complain of


def mended(text: str) -> str:
    """A page with what Sphinx and its theme leave out: levels, names of landmarks, a heading; parameters are no list."""
    text = re.sub(r'(<img alt="[^"]*"[^>]*? src="([^"]*_images/[^"]+)"[^>]*>)', r'<a class="large" href="\2">\1</a>', text)
    for part, name in (("sidebar-drawer", "All pages"), ("toc-drawer", "On this page")):
        text = text.replace(f'<aside class="{part}', f'<aside aria-label="{name}" class="{part}')
    text = text.replace('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">')
    text = text.replace('<div id="search-results">', '<h1>Search</h1>\n<div id="search-results">')
    text = re.sub(r'<th class="head[^"]*"><p></p></th>', "<td></td>", text)
    for tag, kind in (("dl", "parameters"), ("dd", "parameter")):
        inner = partial(re.sub, rf"<(/?){tag}>", lambda t, kind=kind: "</span>" if t[1] else f'<span class="{kind}">')
        text = re.sub(r'<dt class="sig .*?</dt>', lambda found, inner=inner: inner(found[0]), text, flags=re.DOTALL)
    return text
