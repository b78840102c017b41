"""The notebooks as slides, from the outputs that are committed: `make slides`, `make slides ROUTE=lecture`.

    python tools/slides.py                     one deck a notebook, and lecture.html: the cells tagged `lecture` of all of them
    python tools/slides.py --route lecture     the same, and the address printed is the lecture's
    SERVE=0 python tools/slides.py             only build, into build/slides/; SERVE=8000 asks for this port

A `slide` cell begins a question, a `subslide` cell the next step below it, a `fragment` joins the step before it and appears
on the next key, `notes` are seen in the speaker's window only (key S), `skip` is left out. Code that draws a picture joins the
question it answers, and the next step shows what it drew: a back row reads neither of two halves. Nothing is executed.

The decks ask no other host for anything: reveal.js is copied from the package `pyreveal`, none of whose Python is used, after
its files were compared with those that reveal.js's authors published. Fonts are the reader's own.
"""

import argparse
import html
import http.server
import importlib.util
import io
import os
import re
import shutil
import struct
import sys
import tokenize
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from regenerate import NOTEBOOKS, find, merged

ROOT = NOTEBOOKS.parent
BUILT = ROOT / "build" / "slides"
ROUTES = ("lecture",)
SHORT = 600  # characters of HTML: below a question and a claim of this length there is room for a cell of code
WIDEST = 96  # columns: in a longer line of code, the comment at its end moves to a line of its own above
LONG = 12  # lines: a longer print, the listing of a figure, is a slide
NARROW = 44  # columns: lines of this length stand beside a picture, longer ones below it
REVEAL = {  # of reveal.js 6.0.1, as its authors published it
    "LICENSE": "b2883e4b610bfa1b4d8fff84c4d4b825cc7d553cbd9fec4777c04068a2859dc0",
    "dist/reveal.css": "64e6203ee2048665c9f49c368f345fb3d7f936c404934162c70369a7682f388f",
    "dist/reveal.js": "3fb84c30d2e610dd598843d75a123ef2c4dbc588847cda86cd8c7a61e18ddb6b",
    "dist/plugin/notes.js": "946159680c70354c665dbf4f3c9023a737d8b14b48c6c9af452553717a046729",
}

STYLE = """
body { margin: 0; background: #fff; }
.reveal { font-family: "DejaVu Sans", Verdana, "Segoe UI", Roboto, Arial, sans-serif; color: #1a1a1a; line-height: 1.42;
  .slides { text-align: left; section { padding: 0; } }
  .slides section .fragment { transition: none; }  /* a size that is still moving cannot be measured */
  .slides section details.fragment { opacity: 1; visibility: inherit; }
  .slide-number { background: none; color: #666; font: 15px sans-serif; right: 42px; bottom: 8px; a { text-decoration: none; } }
  .progress { color: #666; } }
.page { --s: 24px; font-size: var(--s); box-sizing: border-box; width: 1280px; height: 720px; padding: 26px 42px 44px;
  display: flex; flex-direction: column; gap: 14px; overflow: hidden;
  .question { font-size: max(18px, .9em); font-weight: bold; color: #555; border-bottom: 1px solid #bbb; padding-bottom: 6px; }
  .text, .question, pre { flex: none; }
  .text > :first-child { margin-top: 0; }
  .text > :last-child { margin-bottom: 0; }
  h1 { font-size: 1.5em; line-height: 1.2; margin: 0 0 .5em; }
  h2 { font-size: 1.35em; line-height: 1.2; margin: 0 0 .6em; }
  p, ul, ol, details { margin: .45em 0; }
  ul, ol { padding-left: 1.3em; }
  li { margin: .2em 0; }
  a { color: inherit; }
  summary { color: #555; font-size: max(14px, .85em); }
  code, pre { font-family: "DejaVu Sans Mono", Consolas, Menlo, monospace; }
  :not(pre) > code { font-size: .88em; }
  pre { margin: 0; line-height: 1.34; white-space: pre-wrap; overflow-wrap: anywhere; --columns: 80;
    font-size: min(var(--s), max(var(--low), 1170px / var(--columns) / .603)); }
  pre.code { --low: 20px; background: #f4f4f4; border-left: 5px solid #999; padding: 8px 10px; }
  pre.printed { --low: 15px; padding: 0 10px 0 15px; }
  pre.alone { --low: 20px; }
  .line { display: block; min-height: 1.34em; --hang: calc(1ch * (var(--in) + 4)); padding-left: var(--hang);
    text-indent: calc(-1 * var(--hang)); }
  figure { flex: 1 1 0; min-height: 290px; min-width: 0; margin: 0; text-align: center; }
  img { object-fit: contain; max-width: 100%; max-height: 100%; }
  figure img { width: 100%; height: 100%; }
  .beside { flex: 1 1 0; min-height: 290px; display: flex; align-items: center; gap: 10px; figure { height: 100%; } }
  table { border-collapse: collapse; font-size: max(14px, .88em); line-height: 1.3; }
  th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: left; vertical-align: top; }
  caption { caption-side: bottom; text-align: left; font-size: max(14px, .85em); color: #555; padding-top: .4em; } }
.foot { position: absolute; left: 42px; bottom: 10px; font-size: 15px; color: #666; }
@media print { .reveal .progress { display: none; } }
"""

# Each slide is set in the largest type that fits; below 16 px nothing is made smaller, and the gate would notice.
SCRIPT = """
function fit(page) {
  const folded = [...page.querySelectorAll('details')].filter(fold => !fold.open);
  folded.forEach(fold => { fold.open = true; });
  for (let size = +page.dataset.most; size >= 16; size--) {
    page.style.setProperty('--s', size + 'px');
    if ([page, ...page.querySelectorAll('.text')].every(part => part.scrollWidth <= part.clientWidth)
      && page.scrollHeight <= page.clientHeight) break;
  }
  folded.forEach(fold => { fold.open = false; });
}
const fitAll = () => document.querySelectorAll('.page').forEach(page => { if (page.offsetParent) fit(page); });
Reveal.on('ready', fitAll); Reveal.on('slidechanged', fitAll); Reveal.on('pdf-ready', fitAll);
const fold = open => event => event.fragments.forEach(part => { if (part.tagName === 'DETAILS') part.open = open; });
Reveal.on('fragmentshown', fold(true)); Reveal.on('fragmenthidden', fold(false));
Reveal.initialize({width: 1280, height: 720, margin: 0, center: false, hash: true, transition: 'none', slideNumber: 'c/t',
  navigationMode: 'linear', controls: false, scrollActivationWidth: null, pdfSeparateFragments: false, plugins: [RevealNotes]});
"""

DECK = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="reveal/reveal.css">
<style>{style}{colors}</style>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script src="reveal/notes.js"></script>
<script>{script}</script>
</body>
</html>
"""

INDEX = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>The decks</title><link rel="icon" href="data:,">
<style>body {{ font: 20px/1.6 sans-serif; margin: 2em auto; max-width: 40em; }}</style></head>
<body><h1>The decks</h1>
<p>Arrows or space: on and back. S: the speaker's window. Esc: all slides. F: full screen. For paper, add
<code>?view=print</code> to the address and print.</p>
<ul>
{items}
</ul></body>
</html>
"""


class Slide(NamedTuple):
    """One step of a deck: `blocks` are (cell id, HTML); `question` is the heading it belongs under, empty if it has its own."""

    ident: str
    notebook: str
    question: str
    blocks: list[tuple[str, str]]
    notes: list[str]


# ---- a cell as HTML


class Renderer(IPythonRenderer):
    """nbconvert's, without anchors at headings, and with code as it stands on a slide."""

    def block_code(self, code: str, info: str | None = None) -> str:
        return listing(code) if (info or "").strip() == "python" else super().block_code(code, info)

    def block_math(self, body: str) -> str:
        raise ValueError(f"no formula can be set without MathJax, and a deck brings none: write {body!r} in words and symbols")

    inline_math = block_math


def markdown(source: str, folder: Path = NOTEBOOKS, decks: bool = True) -> str:
    """Markdown as HTML that needs no other file: pictures inside; links to notebooks lead to decks, other local ones go."""
    text = MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True)).render(source)
    text = re.sub(r'<(h\d) id="[^"]*">', r"<\1>", text)

    def picture(found: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", found[2]):
            raise ValueError(f"{found[2][:60]} is not in the checkout: a deck asks no other host for a picture")
        data = b64encode((folder / html.unescape(found[2])).read_bytes()).decode()
        return f"{found[1]}data:image/{Path(found[2]).suffix[1:]};base64,{data}"

    def link(found: re.Match[str]) -> str:
        if re.match(r"[a-z]+:|#", found[1]):
            return found[0]
        deck = re.fullmatch(r"(\w+)\.ipynb", found[1])
        return f'<a href="{deck[1]}.html">{found[2]}</a>' if deck and decks else found[2]

    text = re.sub(r'(<img\b[^>]*?\bsrc=")(?!data:)([^"]+)', picture, text)
    return re.sub(r'<a href="([^"]+)"[^>]*>(.*?)</a>', link, text, flags=re.DOTALL)


def readable(source: str, widest: int = WIDEST) -> str:
    """The same program in narrower lines: where one is too wide, its comment goes to a line of its own above it."""
    lines = source.splitlines()
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    strings = {row for t in tokens if t.type == tokenize.STRING for row in range(t.start[0] + 1, t.end[0] + 1)}
    for token in reversed([t for t in tokens if t.type == tokenize.COMMENT]):
        row, column = token.start[0] - 1, token.start[1]
        before = lines[row][:column].rstrip()
        if len(lines[row]) > widest and before and row + 1 not in strings:
            indent = before[: len(before) - len(before.lstrip())]
            lines[row : row + 1] = [indent + token.string, before]
    return "\n".join(lines)


def pre(kind: str, lines: list[tuple[str, str]]) -> str:
    """(plain, HTML) of each line: the longest decides how large it is set, and what has to wrap hangs under its own line."""
    spans = [f'<span class="line" style="--in:{len(p) - len(p.lstrip())}">{shown}</span>' for p, shown in lines]
    columns = max([len(plain) for plain, _ in lines] + [40])
    return f'<pre class="{kind}" style="--columns:{columns}">{"".join(spans)}</pre>\n'


def listing(source: str) -> str:
    """Python, highlighted."""
    text = readable(source.rstrip("\n"))
    shown = highlight(text, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n")
    return pre("code", list(zip(text.split("\n"), shown.split("\n"), strict=True)))


def printed(text: str) -> str:
    """What a cell printed."""
    lines = strip_ansi(text).rstrip("\n").split("\n")
    alone = " alone" if len(lines) == 1 else ""  # it may wrap; a column of values may not
    return pre(f"printed{alone}", [(line, html.escape(line, quote=False)) for line in lines])


def drawn(output: NotebookNode) -> bool:
    """Whether an output is a picture."""
    return "image/png" in output.get("data", {})


def aspect(output: NotebookNode) -> float:
    """Width over height of a picture."""
    width, height = struct.unpack(">II", b64decode(output.data["image/png"])[16:24])
    return width / height


def outputs(given: list[NotebookNode]) -> str:
    """What a cell showed, in its richest form: a table as HTML, a picture with its alt text, else as it was printed."""
    shown = []
    for output in merged(given):
        data = output.get("data", {})
        if output.output_type == "error":
            shown.append(printed(f"{output.ename}: {output.evalue}"))
        elif output.output_type == "stream":
            shown.append(printed(output.text))
        elif "text/html" in data:
            shown.append(f'<div class="text">{data["text/html"]}</div>\n')
        elif "image/png" in data:
            alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
            shown.append(f'<figure><img alt="{alt}" src="data:image/png;base64,{data["image/png"].strip()}"></figure>\n')
        else:
            shown.append(printed(data.get("text/plain", "")))
    return "".join(shown)


def pieces(cell: NotebookNode) -> list[str]:
    """A cell in as few pieces as a back row can read, as HTML.

    Folded questions and the table behind them are two; code and what it draws or lists are two, a long print is one more.
    """
    if cell.cell_type != "code":
        questions, table, rest = cell.source.partition("\n\n| ")
        split = [questions, "| " + rest] if table and "</details>" in questions else [cell.source]
        return [f'<div class="text">{markdown(part)}</div>\n' for part in split]
    code, pictures, rest = listing(cell.source), *([o for o in cell.outputs if drawn(o) == wanted] for wanted in (True, False))
    lines = "".join(o.get("text", "") for o in rest).splitlines()
    if not pictures:
        return [code, outputs(rest)] if len(lines) > LONG else [code + outputs(rest)]
    if len(lines) > 2 and max(map(len, lines)) <= NARROW and len(pictures) == 1 and aspect(pictures[0]) < 2.2:
        return [code, f'<div class="beside">{outputs(pictures)}{outputs(rest)}</div>\n']
    return [code, *map(outputs, [pictures, rest] if len(lines) > 5 else [cell.outputs])]


# ---- cells as slides


def kind(cell: NotebookNode) -> str:
    """The slide type; a cell without one continues the slide before it."""
    return cell.metadata.get("slideshow", {}).get("slide_type", "fragment")


def on_route(cell: NotebookNode, route: str | None) -> bool:
    """Whether a cell is shown: neither skipped nor, where a route is asked for, without its tag."""
    return kind(cell) != "skip" and (route is None or route in cell.metadata.get("tags", []))


def heading(cell: NotebookNode) -> str:
    """The heading of a markdown cell, as HTML without its own tags; empty if it has none."""
    found = re.search(r"^#{1,2} +(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
    return re.sub(r"</?(p|a)\b[^>]*>", "", markdown(found[1])).strip() if found else ""


def steps(notebook: NotebookNode, stem: str, route: str | None = None) -> list[list[Slide]]:
    """The slides of a notebook: a list for each question, of its steps."""
    stacks: list[list[Slide]] = []
    name, question, before = html.escape(stem.replace("_", " ")), "", ""
    for cell in notebook.cells:
        question = heading(cell) or question
        if not on_route(cell, route):
            continue
        if kind(cell) == "notes":
            if stacks:
                stacks[-1][-1].notes.append(markdown(cell.source))
            continue
        shown = pieces(cell)
        claimed = before == "slide" and cell.cell_type == "code" and len(shown) > 1 and len(stacks[-1][-1].blocks[0][1]) < SHORT
        joins = bool(stacks) and (kind(cell) == "fragment" or (kind(cell) == "subslide" and claimed))
        if not stacks or kind(cell) == "slide":
            stacks.append([])
        for number, piece in enumerate(shown):
            if joins and not number:
                stacks[-1][-1].blocks.append((cell.id, f'<div class="fragment">{piece}</div>'))
                continue
            ident = f"{cell.id}-{number + 1}" if number else cell.id
            above = "" if heading(cell) and not number else question
            piece = piece.replace("<details>", '<details class="fragment">')
            stacks[-1].append(Slide(ident, name, above, [(cell.id, piece)], [f"<p>Cell {cell.id} of {name}.</p>"]))
        before = kind(cell)
    return stacks


def section(slide: Slide) -> str:
    """One slide as reveal.js reads it. Without code it may be set larger."""
    blocks = "".join(f'<div data-cell="{cell}" style="display:contents">{text}</div>\n' for cell, text in slide.blocks)
    most = 25 if "<pre" in blocks or "<figure" in blocks else 36
    question = f'<div class="question">{slide.question}</div>\n' if slide.question else ""
    notes = f'<aside class="notes">{"".join(slide.notes)}</aside>\n' if slide.notes else ""
    page = f'<div class="page" data-most="{most}">\n{question}{blocks}</div>\n<div class="foot">{slide.notebook}</div>\n'
    return f'<section id="{slide.ident}">\n{page}{notes}</section>\n'


def deck(title: str, stacks: list[list[Slide]]) -> str:
    """A whole deck."""
    slides = "".join(f"<section>\n{''.join(map(section, stack))}</section>\n" for stack in stacks)
    colors = HtmlFormatter(style="default").get_style_defs(".code")
    colors = re.sub(r"^(td|span|pre)\b.*\n|^\.code \{.*\n", "", colors, flags=re.MULTILINE)
    return DECK.format(title=html.escape(title), style=STYLE, colors=colors, slides=slides, script=SCRIPT)


def decks(paths: list[Path], route: str | None = None) -> Iterator[tuple[str, str]]:
    """(name, HTML) of each deck: one a notebook, or one of all that is on the route."""
    read = {path: nbformat.read(path, as_version=4) for path in paths}
    if route is None:
        yield from ((path.stem, deck(path.stem.replace("_", " "), steps(nb, path.stem))) for path, nb in read.items())
    else:
        yield route, deck(f"The {route}", [stack for path, nb in read.items() for stack in steps(nb, path.stem, route)])


# ---- files


def copy_reveal(target: Path, source: Path | None = None) -> None:
    """reveal.js's files, each compared with what its authors published before it is used."""
    if source is None:
        package = importlib.util.find_spec("pyreveal")  # found, and not imported
        if package is None or package.origin is None:
            sys.exit("the slides need reveal.js, which the package pyreveal brings along: pip install -e '.[slides]'")
        source = Path(package.origin).parent / "revealjs"
    target.mkdir(parents=True, exist_ok=True)
    for name, wanted in REVEAL.items():
        data = (source / name).read_bytes()
        if (got := sha256(data).hexdigest()) != wanted:
            raise ValueError(f"{name} is not reveal.js 6.0.1's: its SHA-256 is {got[:12]}..., expected {wanted[:12]}...")
        (target / Path(name).name).write_bytes(data)


def build(target: Path = BUILT, paths: list[Path] | None = None) -> list[Path]:
    """Write every deck and an index of them; the decks' paths, the lecture last."""
    shutil.rmtree(target, ignore_errors=True)
    copy_reveal(target / "reveal")
    written, items = [], []
    paths = paths or find([])
    for route in (None, *ROUTES):
        for name, text in decks(paths, route):
            written.append(target / f"{name}.html")
            written[-1].write_text(text, encoding="utf-8")
            items.append(f'<li><a href="{name}.html">{html.escape(name.replace("_", " "))}</a></li>')
    (target / "index.html").write_text(INDEX.format(items="\n".join(items)), encoding="utf-8")
    return written


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves, and says nothing for each file."""

    def log_message(self, *_: object) -> None:
        pass


def server(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """A server for this machine alone; port 0 takes a free one."""
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))


def main() -> int:
    """Build, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--route", choices=ROUTES, help="the deck whose address is printed first")
    options = parser.parse_args()
    port = os.environ.get("SERVE") or "any"
    if port != "any" and not port.isdecimal():
        parser.error(f"SERVE is a port, or 0 to serve nothing, got {port!r}")
    written = build()
    print(f"{len(written)} decks in {BUILT.relative_to(ROOT)}/, {sum(path.stat().st_size for path in written) / 1e6:.1f} MB")
    if port == "0":
        return 0
    with server(BUILT, 0 if port == "any" else int(port)) as running:
        page = f"{options.route}.html" if options.route else ""
        print(f"http://127.0.0.1:{running.server_port}/{page} (Ctrl-C ends it)", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
