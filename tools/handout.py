"""The notebooks as a class gets them, into build/handout/: `make handout`.

Outputs, solutions and answers are gone; guesses, exercise stubs and hints stay. As notebooks (laid beside `notebooks/` in a
checkout, their links lead somewhere; the photographs that they open come along), and as one page, handout.html, for paper: A4,
each notebook on a page of its own, hints printed, room left below each question. Nothing is executed.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from regenerate import NOTEBOOKS, find, normalize, write
from slides import ROOT, listing, markdown

BUILT = ROOT / "build" / "handout"
FOLDED = re.compile(r"<details>\s*<summary>(Solution|Answer)</summary>.*?</details>[ \t]*", re.DOTALL)
ROOM = "*Your answer:*"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>minideeplab: the handout</title>
<link rel="icon" href="data:,">
<style>
@page {{ size: A4; margin: 17mm 16mm 18mm 20mm; }}
body {{ font: 10.5pt/1.42 Georgia, "DejaVu Serif", "Times New Roman", serif; color: #111; max-width: 174mm; margin: 0 auto; }}
article {{ break-before: page; }}
h1 {{ font-size: 17pt; line-height: 1.2; margin: 0 0 4mm; }}
h2 {{ font-size: 13pt; line-height: 1.25; margin: 6mm 0 2mm; }}
h1, h2, summary {{ break-after: avoid; font-family: Arial, "DejaVu Sans", sans-serif; }}
p, li {{ orphans: 3; widows: 3; margin: 1.6mm 0; }}
a {{ color: inherit; }}
pre, code {{ font-family: "DejaVu Sans Mono", Consolas, Menlo, monospace; font-size: 8pt; }}
pre {{ line-height: 1.38; margin: 2mm 0 3mm; padding: 1.5mm 2mm; border-left: 1mm solid #999; background: #f6f6f6;
  white-space: pre-wrap; overflow-wrap: anywhere; break-inside: avoid; }}
.line {{ display: block; min-height: 1.38em; --hang: calc(1ch * (var(--in) + 4)); padding-left: var(--hang);
  text-indent: calc(-1 * var(--hang)); }}
.guess pre, .exercise pre {{ border-left-color: #111; padding-bottom: 9mm; }}
.exercise pre {{ padding-bottom: 24mm; }}
.room {{ margin-bottom: 13mm; }}
p:has(+ .room) {{ break-after: avoid; }}
table {{ border-collapse: collapse; font-size: 9pt; line-height: 1.3; break-inside: avoid; }}
th, td {{ border-bottom: .2mm solid #999; padding: 1mm 2mm; text-align: left; vertical-align: top; }}
summary {{ list-style: none; font-weight: bold; font-size: 9pt; }}
{colors}</style>
</head>
<body>
<h1>minideeplab: the handout</h1>
<p>The course's notebooks without outputs, solutions and answers. Run them, and the outputs come back.</p>
<ol start="0">
{contents}
</ol>
{articles}
</body>
</html>
"""


def without_answers(source: str) -> str:
    """A markdown cell without its folded solutions; an answer leaves its place to write another."""
    text = FOLDED.sub(lambda found: ROOM if found[1] == "Answer" else "", source)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def handout(notebook: NotebookNode) -> NotebookNode:
    """A notebook for those who have not solved it yet: the same cells, fewer those that held a solution only."""
    given = nbformat.from_dict(notebook)
    for cell in given.cells:
        if cell.cell_type == "code":
            cell.outputs = []
        else:
            cell.source = without_answers(cell.source)
    given.cells = [cell for cell in given.cells if cell.source]
    normalize(given)
    for cell in given.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
    return given


def article(notebook: NotebookNode, name: str) -> str:
    """A notebook for paper."""
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            kinds = [tag for tag in cell.metadata.get("tags", []) if tag in ("guess", "exercise")]
            cells.append(f'<div class="{" ".join(["code", *kinds])}">{listing(cell.source)}</div>\n')
        elif cell.cell_type == "markdown":
            text = markdown(cell.source, decks=False).replace("<details>", "<details open>")
            cells.append(text.replace("<p><em>Your answer:</em></p>", '<p class="room"><em>Your answer:</em></p>'))
    return f'<article id="{name}">\n{"".join(cells)}</article>\n'


def page(notebooks: dict[str, NotebookNode]) -> str:
    """All notebooks, already without answers, as one page for paper."""
    titles = {name: re.search(r"^# +(.+)$", nb.cells[0].source, re.MULTILINE) for name, nb in notebooks.items()}
    rows = [f'<li><a href="#{name}">{found[1] if found else name}</a></li>' for name, found in titles.items()]
    articles = "".join(article(nb, name) for name, nb in notebooks.items())
    colors = HtmlFormatter(style="bw").get_style_defs(".code")
    colors = re.sub(r"^(td|span|pre)\b.*\n|^\.code \{.*\n", "", colors, flags=re.MULTILINE)
    return PAGE.format(colors=colors, contents="\n".join(rows), articles=articles)


def build(target: Path = BUILT, paths: list[Path] | None = None) -> list[Path]:
    """Write everything; the paths of the notebooks, and of the page last."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(NOTEBOOKS / "assets", target / "assets")
    given = {path.stem: handout(nbformat.read(path, as_version=4)) for path in paths or find([])}
    for name, notebook in given.items():
        write(notebook, target / f"{name}.ipynb")
    (target / "handout.html").write_text(page(given), encoding="utf-8")
    return [*(target / f"{name}.ipynb" for name in given), target / "handout.html"]


def main() -> int:
    """Build, and say where."""
    written = build()
    print(f"{len(written) - 1} notebooks and {written[-1].relative_to(ROOT)}, which prints on A4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
