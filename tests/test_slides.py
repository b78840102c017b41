"""The decks of `make slides`, as files: what is on which slide. Their looks, tools/browser_slides.py measures in a browser."""

import ast
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import slides
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PATHS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ASKED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("image", "href")}


class Parsed(HTMLParser):
    """What a browser would find in a deck: slides, cells, pictures, and what it would ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.slides, self.cells, self.alts, self.asked, self.links = [], [], [], [], []
        self.feed(text)
        self.asked += re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.slides += [values["id"]] if tag == "section" and "id" in values else []
        self.cells += [values["data-cell"]] if "data-cell" in values else []
        self.alts += [values.get("alt", "")] if tag == "img" else []
        self.links += [values["href"]] if tag == "a" else []
        self.asked += [values[name] for kind, name in sorted(ASKED) if kind == tag and name in values]

    def elsewhere(self) -> list[str]:
        """What is asked of another host, or of a file that is not copied."""
        return [url for url in self.asked if not re.match(r"data:|reveal/reveal\.(js|css)$|reveal/notes\.js$", url)]


def cell(
    source: str, slide: str, *outputs: NotebookNode, tags: tuple[str, ...] = ("lecture",), ident: str = "x"
) -> NotebookNode:
    metadata = {"slideshow": {"slide_type": slide}, "tags": list(tags)}
    if slide in ("subslide", "code"):
        return new_code_cell(source, id=ident, metadata=metadata, outputs=list(outputs))
    return new_markdown_cell(source, id=ident, metadata=metadata)


def stream(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def picture(alt: str) -> NotebookNode:
    return new_output("display_data", data={"image/png": DOT}, metadata={"image/png": {"alt": alt}})


def sample() -> NotebookNode:
    question = "a question that needs its own slide " * 20
    return new_notebook(
        cells=[
            cell("# A title\n\nA claim.", "slide", ident="a"),
            cell("print(1)", "subslide", stream("1\n"), ident="b"),
            cell("That is what it means.", "fragment", ident="c"),
            cell("This is said, not shown.", "notes", ident="d"),
            cell(f"## Why *so*?\n\n{question}", "slide", ident="e", tags=()),
            cell("show(figure)", "subslide", picture('one < "two"'), stream("2\n"), ident="f"),
            cell("The solution.", "skip", ident="g"),
            cell("And so on.", "fragment", ident="h"),
        ]
    )


def shape(notebook: NotebookNode, route: str | None = None) -> list[list[str]]:
    """Each question's slides, each as the letters of its cells."""
    return [
        ["".join(ident for ident, _ in slide.blocks) for slide in stack] for stack in slides.steps(notebook, "04_sample", route)
    ]


def shown(path: Path) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    return [c.id for c in notebook.cells if c.metadata.slideshow.slide_type not in ("skip", "notes")]


def tagged(path: Path) -> list[str]:
    """The route, by another hand than the builder's."""
    notebook = nbformat.read(path, as_version=4)
    return [c.id for c in notebook.cells if "lecture" in c.metadata.get("tags", []) and c.id in shown(path)]


def once(idents: list[str]) -> list[str]:
    """Without the repetition of a cell that takes two slides."""
    return [ident for i, ident in enumerate(idents) if i == 0 or idents[i - 1] != ident]


# ---- grouping


def test_a_question_is_a_stack_its_code_a_step_and_its_reading_joins_the_step():
    assert shape(sample()) == [["a", "bc"], ["e", "f", "fh"]]


def test_another_slide_type_is_another_grouping():
    notebook = sample()
    notebook.cells[2].metadata.slideshow.slide_type = "subslide"
    notebook.cells[4].metadata.slideshow.slide_type = "subslide"
    assert shape(notebook) == [["a", "b", "c", "e", "f", "fh"]]


def test_code_that_draws_joins_a_short_question_and_what_it_drew_comes_next():
    notebook = sample()
    notebook.cells[4].source = "## Why?\n\nA claim."
    assert shape(notebook)[1] == ["ef", "fh"]


@pytest.mark.parametrize(
    ("lines", "pieces", "beside"),
    [
        (["0.5"] * 2, 2, False),
        (["0.5"] * 8, 2, True),
        (["a long line " * 8] * 4, 2, False),
        (["a long line " * 8] * 8, 3, False),
    ],
)
def test_a_long_print_stands_beside_its_picture_or_on_a_slide_of_its_own(lines, pieces, beside):
    made = slides.pieces(cell("show(figure)", "subslide", picture("x"), stream("\n".join(lines) + "\n")))
    assert len(made) == pieces
    assert ('class="beside"' in made[1]) == beside


def test_the_listing_of_a_figure_is_a_slide_of_its_own():
    assert len(slides.pieces(cell("print(x)", "subslide", stream("x\n" * 12)))) == 1
    assert len(slides.pieces(cell("print(x)", "subslide", stream("x\n" * 13)))) == 2


def test_the_table_behind_folded_questions_has_its_own_slide():
    fold = "<details><summary>Answer</summary>So.</details>"
    close = cell(f"## Three questions\n\nWhy? {fold}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nNext.", "slide")
    questions, table = slides.pieces(close)
    assert "So." in questions
    assert "<table>" not in questions
    assert "<td>2</td>" in table
    assert "Next." in table
    assert len(slides.pieces(cell("Why?\n\n| a |\n|---|\n| 1 |", "slide"))) == 1


def test_what_is_skipped_is_left_out_and_notes_are_for_the_speaker_alone():
    text = slides.deck("x", slides.steps(sample(), "04_sample"))
    assert "The solution." not in text
    assert "The solution." in str(sample())
    (notes,) = re.findall(r'<aside class="notes">(?:(?!</aside>).)*This is said.*?</aside>', text, re.DOTALL)
    assert text.replace(notes, "").count("This is said") == 0


def test_a_step_below_its_question_repeats_it():
    stacks = slides.steps(sample(), "04_sample")
    assert [slide.question for slide in stacks[1]] == ["", "Why <em>so</em>?", "Why <em>so</em>?"]


# ---- the route


def test_a_route_shows_its_cells_only_and_a_step_without_its_question_still_says_whose_it_is():
    stacks = slides.steps(sample(), "04_sample", "lecture")
    assert shape(sample(), "lecture") == [["a", "bc", "f", "fh"]]
    assert stacks[0][2].question == "Why <em>so</em>?"


def test_the_lecture_has_exactly_the_tagged_cells_of_the_course_in_order():
    ((name, text),) = slides.decks(PATHS, "lecture")
    route = [ident for path in PATHS for ident in tagged(path)]
    assert name == "lecture"
    assert len(route) > 20
    assert once(Parsed(text).cells) == route
    assert once(Parsed(text).cells) != [ident for path in PATHS for ident in shown(path)]


def test_one_tag_less_is_one_cell_less(tmp_path):
    notebook = nbformat.read(PATHS[0], as_version=4)
    gone = tagged(PATHS[0])[-1]
    next(c for c in notebook.cells if c.id == gone).metadata.tags.remove("lecture")
    nbformat.write(notebook, tmp_path / PATHS[0].name)
    ((_, text),) = slides.decks([tmp_path / PATHS[0].name], "lecture")
    assert once(Parsed(text).cells) == tagged(PATHS[0])[:-1]


def test_a_notebook_of_the_lecture_begins_a_question():
    stacks = [slides.steps(nbformat.read(path, as_version=4), path.stem, "lecture") for path in PATHS]
    text = next(iter(slides.decks(PATHS, "lecture")))[1]
    assert len(re.findall(r"^<section>$", text, re.MULTILINE)) == sum(map(len, stacks))


# ---- the course's decks


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def course_deck(request):
    ((_, text),) = slides.decks([request.param])
    return request.param, Parsed(text), text


def test_a_deck_shows_every_cell_that_is_not_skipped_in_order(course_deck):
    path, parsed, _ = course_deck
    assert once(parsed.cells) == shown(path)


def test_every_slide_has_an_address_of_its_own(course_deck):
    _, parsed, _ = course_deck
    assert len(set(parsed.slides)) == len(parsed.slides)


def test_every_picture_is_kept_with_its_alt_text(course_deck):
    path, parsed, _ = course_deck
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and c.id in shown(path)]
    drawn = [o for c in cells for o in c.outputs if "image/png" in o.get("data", {})]
    assert parsed.alts == [o.metadata["image/png"].alt for o in drawn]
    assert all(parsed.alts)


def test_everything_that_was_printed_is_on_a_slide(course_deck):
    path, _, text = course_deck
    plain = re.sub(r"\s+", "", slides.html.unescape(re.sub(r"<[^>]+>", "", text)))
    for c in nbformat.read(path, as_version=4).cells:
        for output in c.get("outputs", []) if c.id in shown(path) else []:
            assert re.sub(r"\s+", "", output.get("text", "")) in plain


def test_a_deck_asks_no_other_host_for_anything(course_deck):
    assert course_deck[1].elsewhere() == []


@pytest.mark.parametrize(
    "text",
    [
        '<img alt="x" src="https://example.org/x.png">',
        '<script src="https://example.org/reveal.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        "<style>@import 'https://example.org/x.css';</style>",
        "<style>body { background: url(https://example.org/x.png); }</style>",
        '<img alt="x" src="assets/crow.png">',
    ],
)
def test_a_request_would_be_noticed_and_a_link_in_the_text_is_none(text):
    assert len(Parsed(text).elsewhere()) == 1
    assert Parsed('<a href="https://example.org">x</a>').elsewhere() == []


# ---- pieces of a cell


def test_alt_text_survives_signs_that_html_reads_otherwise():
    text = slides.deck("x", slides.steps(sample(), "04_sample"))
    assert Parsed(text).alts == ['one < "two"']


def test_a_long_line_gives_its_comment_a_line_of_its_own_and_stays_the_same_program():
    source = f"x = [1,{' ' * 60}# first\n     2]\nif x:\n    y = {'x + ' * 25}x    # a sum\n    z = 1    # short"
    narrow = slides.readable(source)
    assert narrow.splitlines()[2:] == ["if x:", "    # a sum", f"    y = {'x + ' * 25}x", "    z = 1    # short"]
    assert narrow.splitlines()[:2] == source.splitlines()[:2]
    assert ast.dump(ast.parse(narrow)) == ast.dump(ast.parse(source))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_cell_of_the_course_becomes_another_program_or_loses_a_comment(path):
    for c in nbformat.read(path, as_version=4).cells:
        if c.cell_type == "code":
            narrow = slides.readable(c.source)
            assert ast.dump(ast.parse(narrow)) == ast.dump(ast.parse(c.source))
            assert sorted(narrow.split()) == sorted(c.source.split())


def test_what_looks_like_a_comment_inside_a_string_is_left_alone():
    source = f'text = """{"a" * 100}  # no comment\n"""\nurl = "{"b" * 100}#c"'
    assert slides.readable(source) == source


def test_what_is_no_program_is_shown_as_it_is():
    assert slides.readable("print('") == "print('"
    assert "printed" in slides.printed("\x1b[31mred\x1b[0m")
    assert "\x1b" not in slides.printed("\x1b[31mred\x1b[0m")


def test_a_link_to_a_notebook_leads_to_its_deck_and_one_to_a_file_is_text():
    text = slides.markdown("[a](05_xception.ipynb) [b](../minideeplab/x.py) [c](https://example.org)")
    assert Parsed(text).links == ["05_xception.html", "https://example.org"]
    assert "b" in text


def test_a_picture_of_the_checkout_comes_along_and_one_from_elsewhere_is_refused():
    assert slides.markdown("![a mask](assets/crow_mask.png)").count('src="data:image/png;base64,') == 1
    with pytest.raises(ValueError, match=r"example\.org.* asks no other host"):
        slides.markdown("![x](https://example.org/x.png)")


def test_a_formula_is_refused_since_nothing_here_could_set_it():
    with pytest.raises(ValueError, match="no formula can be set"):
        slides.markdown("$$x^2$$")


def test_an_error_is_shown_in_one_line():
    failed = new_output("error", ename="ValueError", evalue="got 4", traceback=["a", "b"])
    assert "ValueError: got 4" in slides.outputs([failed])


# ---- files


def test_a_file_that_is_not_reveal_js_is_not_used(tmp_path):
    for name in slides.REVEAL:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("alert('hello')", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is not reveal\.js 6\.0\.1's: its SHA-256 is"):
        slides.copy_reveal(tmp_path / "out", tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_package_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(slides.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install -e '\.\[slides\]'"):
        slides.copy_reveal(tmp_path)


def test_everything_is_built_and_reveal_js_lies_beside_it(tmp_path):
    if importlib.util.find_spec("pyreveal") is None:
        pytest.skip("only the extra `slides` brings reveal.js")
    written = slides.build(tmp_path / "out", PATHS[:2])
    assert [path.name for path in written] == [f"{path.stem}.html" for path in PATHS[:2]] + ["lecture.html"]
    links = Parsed((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).links
    assert links == [path.name for path in written]
    for path in written:
        files = [url for url in Parsed(path.read_text(encoding="utf-8")).asked if not url.startswith("data:")]
        assert all((path.parent / url).is_file() for url in files)
        assert len(files) == 3


def test_nobody_but_this_machine_is_served():
    with slides.server(Path()) as running:
        assert running.server_address[0] == "127.0.0.1"
