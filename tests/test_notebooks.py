"""The contract of the notebooks: what nbval cannot see, since it passes a notebook whose outputs were stripped.

Each rule yields its complaints about a notebook, and its name is the claim. Below the rules stands a small notebook that
keeps them all, and for each rule a way to break it that must be noticed.
"""

import copy
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from mutants import MUTATIONS, Mutation, not_once
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from regenerate import normalize

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
SIZE_CAP = 600_000  # bytes, pictures included
TAGS = {"lecture", "guess", "exercise", "solution", "raises-exception", "nbval-ignore-output"}
SLIDES = {"slide", "subslide", "fragment", "skip", "notes"}
BUDGET = {  # code cells, cells; each may be exceeded by a tenth
    "00": (6, 14), "01": (14, 34), "02": (13, 32), "03": (16, 38), "04": (16, 40), "05": (16, 40), "06": (20, 46),
    "07": (16, 38), "08": (16, 40), "09": (14, 36), "10": (14, 36), "11": (14, 34), "12": (14, 36), "13": (14, 36),
}  # fmt: skip

# ---- reading a notebook


def code(nb: NotebookNode) -> list[NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "code"]


def markdown(nb: NotebookNode) -> list[NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "markdown"]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def prose(cell: NotebookNode) -> str:
    """What is read when nothing is unfolded: no code, table, folded block or HTML tag."""
    text = re.sub(r"```.*?```|<details>.*?</details>|<[^>]*>", " ", cell.source, flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("|"))


def start(cell: NotebookNode) -> str:
    return repr(cell.source[:60])


def words(cell: NotebookNode) -> int:
    return len(re.findall(r"\S*\w\S*", prose(cell)))


def printed(cell: NotebookNode) -> str:
    """The output that is compared: streams and the plain form of values; nothing of an ignored cell, and no picture's."""
    compared = [] if "nbval-ignore-output" in tags(cell) else [o for o in cell.outputs if "image/png" not in o.get("data", {})]
    return "\n".join(
        o.text.rstrip("\n") if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") for o in compared
    )


def sections(nb: NotebookNode) -> list[list[NotebookNode]]:
    """The cells under each heading of the second level."""
    found: list[list[NotebookNode]] = []
    for cell in nb.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE):
            found.append([])
        if found:
            found[-1].append(cell)
    return found


def close(nb: NotebookNode) -> list[NotebookNode]:
    """The last section: quiz, table, link onward."""
    return sections(nb)[-1] if sections(nb) else []


def cards(nb: NotebookNode) -> list[NotebookNode]:
    """The cells of the exercise cards: the task before the stub, the stub, and the folded hint and solution after it."""
    found = []
    for i, cell in enumerate(nb.cells):
        if "exercise" in tags(cell):
            found += [c for c in nb.cells[max(i - 1, 0) : i] if c.cell_type == "markdown"] + [cell] + nb.cells[i + 1 : i + 2]
    return found


def argument(nb: NotebookNode) -> list[NotebookNode]:
    """The markdown cells that carry the argument: neither opener nor card nor close."""
    other = [id(c) for c in [*nb.cells[:1], *cards(nb), *close(nb)]]
    return [c for c in markdown(nb) if id(c) not in other]


# ---- the rules: execution and outputs


def every_code_cell_ran_once_and_in_order(nb: NotebookNode) -> Iterator[str]:
    counts = [c.execution_count for c in code(nb)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts {counts}"


def every_section_compares_an_output(nb: NotebookNode) -> Iterator[str]:
    for section in sections(nb):
        run = [c for c in section if c.cell_type == "code"]
        if run and not any(printed(c) for c in run):
            yield f"nothing is compared under {start(section[0])}"


def only_a_guess_shows_nothing(nb: NotebookNode) -> Iterator[str]:
    for cell in code(nb):
        if not cell.outputs and "guess" not in tags(cell):
            yield f"no output: {start(cell)}"


def tags_and_slide_types_are_known(nb: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(nb.cells, 1):
        if unknown := sorted(tags(cell) - TAGS):
            yield f"cell {number} has the tags {unknown}"
        if (slide := cell.metadata.get("slideshow", {}).get("slide_type")) not in SLIDES:
            yield f"cell {number} has the slide type {slide}"


def no_cell_fails_or_warns(nb: NotebookNode) -> Iterator[str]:
    for cell in code(nb):
        failed = any(o.output_type == "error" or o.get("name") == "stderr" for o in cell.outputs)
        if failed != ("raises-exception" in tags(cell)):
            yield f"{'an error or a warning' if failed else 'nothing is raised'}: {start(cell)}"


def no_path_address_version_or_time_is_printed(nb: NotebookNode) -> Iterator[str]:
    for what, pattern in {
        "an absolute path": r"(?<![\w.])/(home|root|tmp|work|usr|opt|var|Users)/\S*|\b[A-Z]:\\\S*",
        "an object's address": r"\b0x[0-9a-f]{5,}",
        "a version": r"\b\d+\.\d+\.\d+\S*",
        "a time": r"\b\d+(\.\d+)? ?(s|ms|us|µs|ns|sec|seconds?)\b",
    }.items():
        for cell in code(nb):
            if found := re.search(pattern, printed(cell)):
                yield f"{what} is printed: {found[0]!r} by {start(cell)}"


def no_long_float_is_printed(nb: NotebookNode) -> Iterator[str]:
    for cell in code(nb):
        if found := re.search(r"\d+\.\d{3,}|\d(\.\d+)?e[+-]\d\d", printed(cell)):
            yield f"{found[0]} is printed by {start(cell)}"


def pictures_are_png_and_have_alt_text(nb: NotebookNode) -> Iterator[str]:
    for output in (o for c in code(nb) for o in c.outputs if "data" in o):
        if vector := output.data.keys() & {"image/svg+xml", "application/pdf"}:
            yield f"{vector} is compared byte for byte"
        if "image/png" in output.data and not output.metadata.get("image/png", {}).get("alt", "").strip():
            yield "a figure without alt text"
    for cell in markdown(nb):
        for found in re.finditer(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=['\"][^'\"])[^>]*>", cell.source):
            yield f"a picture without alt text: {found[0]}"


def every_link_and_picture_is_in_the_checkout(nb: NotebookNode) -> Iterator[str]:
    for cell in markdown(nb):
        for picture, inline, source in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)|\bsrc=['\"]([^'\"]+)", cell.source):
            target = inline or source
            if ":" in target and (picture or source):
                yield f"a remote picture: {target}"
            elif ":" not in target and not (NOTEBOOKS / target.partition("#")[0]).resolve().exists():
                yield f"a link to nothing: {target}"


def at_most_one_cell_is_ignored_and_says_why(nb: NotebookNode) -> Iterator[str]:
    ignored = [c for c in code(nb) if "nbval-ignore-output" in tags(c)]
    if len(ignored) > 1:
        yield f"{len(ignored)} ignored cells"
    for cell in ignored:
        if not cell.source.startswith("# "):
            yield f"ignored, and the first line does not say why: {start(cell)}"


def the_file_is_small_and_holds_nothing_but_the_course(nb: NotebookNode) -> Iterator[str]:
    if (size := len(nbformat.writes(nb).encode())) > SIZE_CAP:
        yield f"{size} bytes"
    canonical = copy.deepcopy(nb)
    normalize(canonical)
    if canonical != nb:
        yield "not as `make notebooks` writes it: if JupyterLab saved it, `git restore notebooks` brings ours back"


# ---- the rules: what a learner sees


def no_line_of_code_ends_in_a_semicolon(nb: NotebookNode) -> Iterator[str]:
    for cell in code(nb):
        yield from (f"trailing semicolon: {line!r}" for line in lines(cell.source) if line.rstrip().endswith(";"))


def equality_is_shown_and_not_asserted(nb: NotebookNode) -> Iterator[str]:
    for cell in code(nb):
        yield from (f"assert: {line!r}" for line in lines(cell.source) if re.match(r"\s*assert\b", line))


def the_machinery_stays_out_of_sight(nb: NotebookNode) -> Iterator[str]:
    for cell in nb.cells:
        if found := re.search(r"(?i:\b(theorem|ledger|nbval)\w*)|\bCI\b", cell.source):
            yield f"{found[0]!r} in {start(cell)}"


def a_cell_is_a_slide(nb: NotebookNode) -> Iterator[str]:
    for cell in (c for c in code(nb) if not c.source.startswith("# listing")):
        if (count := len(lines(cell.source))) > 8:
            yield f"{count} lines of code: {start(cell)}"
        if (count := len(lines(printed(cell)))) > 12:
            yield f"{count} lines of output: {start(cell)}"


def the_argument_is_short(nb: NotebookNode) -> Iterator[str]:
    counts = sorted((words(c), start(c)) for c in argument(nb))
    median = statistics.median([count for count, _ in counts] or [0])
    if not 25 <= median <= 40:
        yield f"a markdown cell has {median} words in the median"
    long = [f"{count} words: {text}" for count, text in counts if count > 60]
    if len(long) > 1 or counts[-1][0] > 120:
        yield from long


def most_cells_argue(nb: NotebookNode) -> Iterator[str]:
    frame = {id(c) for c in [*nb.cells[:1], *cards(nb), *close(nb)]} | {id(c) for c in code(nb) if "guess" in tags(c)}
    if 3 * len(frame) > len(nb.cells):
        yield f"opener, guesses, cards, quiz and close are {len(frame)} of {len(nb.cells)} cells"


def the_page_budget_is_kept(nb: NotebookNode) -> Iterator[str]:
    most_code, most = BUDGET[nb["stem"][:2]]
    for what, count, allowed in (("code cells", len(code(nb)), most_code), ("cells", len(nb.cells), most)):
        if 10 * count > 11 * allowed:
            yield f"{count} {what}, the budget is {allowed}"


def a_guess_is_one_empty_line_to_fill_in(nb: NotebookNode) -> Iterator[str]:
    guesses = [c for c in code(nb) if "guess" in tags(c)]
    if len(guesses) > 2:
        yield f"{len(guesses)} guesses"
    for cell in guesses:
        if not re.fullmatch(r"\w+ = None\s+# \S.*", cell.source) or cell.outputs:
            yield f"not of the form `guess = None    # what to write`: {start(cell)}"


def a_card_has_a_stub_a_check_and_a_folded_hint_and_solution(nb: NotebookNode) -> Iterator[str]:
    stubs = [i for i, c in enumerate(nb.cells) if "exercise" in tags(c)]
    if len(stubs) > 2:
        yield f"{len(stubs)} cards"
    for i in stubs:
        stub, after = nb.cells[i].source, "".join(c.source for c in nb.cells[i + 1 : i + 2])
        name = "".join(re.findall(r"^def (\w+)\(", stub, re.MULTILINE)[:1]) or "?"
        for text in (f"def {name}(", "\n    return None", f"\ncheck({name},"):
            if text not in stub:
                yield f"the stub lacks {text!r}: {start(nb.cells[i])}"
        hint, solution = r"<details>\s*<summary>Hint</summary>", r"<details>\s*<summary>Solution</summary>\s*```python\n"
        for pattern in (hint, rf"{solution}(.*\n)*def {name}\("):
            if not re.search(pattern, after):
                yield f"after {start(nb.cells[i])} there is no {pattern}"


def the_opener_says_what_for_how_long_and_on_what(nb: NotebookNode) -> Iterator[str]:
    opener = "".join(c.source for c in nb.cells[:1] if c.cell_type == "markdown")
    for what, pattern in {
        "a title": r"\A# \S",
        "the aims": "After this notebook you can",
        "minutes": r"\d+ minutes",
        "the hardware": r"\bCPU\b",
        "a link to its module": r"\]\(\.\./minideeplab/[\w/]+\.py\)",
    }.items():
        if not re.search(pattern, opener):
            yield f"the opener lacks {what}"


def the_close_asks_three_questions_then_says_what_was_shown_then_leads_on(nb: NotebookNode) -> Iterator[str]:
    text = "\n".join(c.source for c in close(nb) if c.cell_type == "markdown")
    questions, tables = text.split("<details>"), re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    if len(questions) != 4:
        yield f"{len(questions) - 1} folded answers in the last section, not three"
    if len(tables) != 1 or not 3 <= len(lines(tables[0])) <= 7:
        yield f"{len(tables)} tables, of {[len(lines(t)) - 2 for t in tables]} rows, not one of one to five"
    elif tables[0] not in questions[-1].partition("</details>")[2]:
        yield "the table does not come after the questions"
    elif not re.search(r"\]\([^)]+\)", text.partition(tables[0])[2]):
        yield "no link onward after the table"


Rule = Callable[[NotebookNode], Iterator[str]]
RULES: list[Rule] = [
    every_code_cell_ran_once_and_in_order,
    every_section_compares_an_output,
    only_a_guess_shows_nothing,
    tags_and_slide_types_are_known,
    no_cell_fails_or_warns,
    no_path_address_version_or_time_is_printed,
    no_long_float_is_printed,
    pictures_are_png_and_have_alt_text,
    every_link_and_picture_is_in_the_checkout,
    at_most_one_cell_is_ignored_and_says_why,
    the_file_is_small_and_holds_nothing_but_the_course,
    no_line_of_code_ends_in_a_semicolon,
    equality_is_shown_and_not_asserted,
    the_machinery_stays_out_of_sight,
    a_cell_is_a_slide,
    the_argument_is_short,
    most_cells_argue,
    the_page_budget_is_kept,
    a_guess_is_one_empty_line_to_fill_in,
    a_card_has_a_stub_a_check_and_a_folded_hint_and_solution,
    the_opener_says_what_for_how_long_and_on_what,
    the_close_asks_three_questions_then_says_what_was_shown_then_leads_on,
]


def read(path: Path) -> NotebookNode:
    nb = nbformat.read(path, as_version=4)
    nb["stem"] = path.stem
    return nb


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook(path, rule):
    complaints = list(rule(read(path)))
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.mark.skipif(not PATHS, reason="no notebooks")
def test_pytest_collects_every_code_cell():
    command = [sys.executable, "-m", "pytest", "--nbval", "--collect-only", "-q", "-p", "no:cacheprovider", "notebooks"]
    listed = subprocess.run(command, cwd=NOTEBOOKS.parent, capture_output=True, text=True).stdout
    assert Counter(re.findall(r"(\S+)\.ipynb::", listed)) == {f"notebooks/{path.stem}": len(code(read(path))) for path in PATHS}


# ---- each rule notices what it is for


def sample() -> NotebookNode:
    """The smallest notebook that keeps every rule."""

    def text(source: str, slide: str = "slide") -> NotebookNode:
        return new_markdown_cell(source, metadata={"slideshow": {"slide_type": slide}})

    def run(source: str, *outputs: NotebookNode, tag: str = "lecture") -> NotebookNode:
        return new_code_cell(source, outputs=list(outputs), metadata={"slideshow": {"slide_type": "subslide"}, "tags": [tag]})

    def stream(shown: str) -> NotebookNode:
        return new_output("stream", name="stdout", text=shown)

    thirty = "a claim of thirty words " * 6
    picture = new_output(
        "display_data",
        data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"},
        metadata={"image/png": {"alt": "a finding"}},
    )
    module = "[the component](../minideeplab/geometry.py)"
    opener = text(f"# A title\n\nAfter this notebook you can\n\n- do it\n\n10 minutes, CPU. {module}")
    argued = [
        c
        for i in range(6)
        for c in (text(f"## Question {i}?\n\n{thirty}"), run(f"print({i})", stream(f"{i}\n")), text(thirty, "fragment"))
    ]
    guessed = [
        run("guess = None    # a number", tag="guess"),
        run("show(fig)\nprint(guess)", picture, stream("no guess yet\n")),
    ]
    stub = run("def f(x):\n    return None\n\n\ncheck(f, {1: 2})", stream("f returns nothing yet\n"), tag="exercise")
    fold = "<details><summary>{}</summary>\n\n{}\n\n</details>"
    folded = text(fold.format("Hint", "double") + "\n" + fold.format("Solution", "```python\ndef f(x):\n    return 2 * x\n```"))
    table = "| claim | evidence |\n|---|---|\n| doubled | counted |"
    end = text(
        "## Three questions\n\n" + 3 * (fold.format("Why?", "So.") + "\n\n") + f"{table}\n\nOn to [the library](../minideeplab)"
    )
    nb = new_notebook(cells=[opener, *argued, *guessed, stub, folded, end])
    normalize(nb)
    nb["stem"] = "04_sample"
    return nb


Change = Callable[[NotebookNode], object]


def edit(cell: int, old: str, new: str) -> Change:
    """Replace a piece of one cell's source."""

    def change(nb: NotebookNode) -> None:
        assert nb.cells[cell].source.count(old) >= 1
        nb.cells[cell].source = nb.cells[cell].source.replace(old, new)

    return change


def says(shown: str) -> Change:
    """Let the first code cell print something else."""
    return lambda nb: nb.cells[2].outputs[0].update(text=shown)


def tag(cell: int, name: str) -> Change:
    return lambda nb: nb.cells[cell].metadata.update(tags=[name])


def both(*changes: Change) -> Change:
    return lambda nb: [change(nb) for change in changes]


GUESS, FIGURE, STUB, FOLDED, END = 19, 20, 21, 22, 23  # cells of the sample; 2 prints the first number
BROKEN: list[tuple[Rule, Change]] = [
    (every_code_cell_ran_once_and_in_order, lambda nb: nb.cells[2].update(execution_count=None)),
    (every_code_cell_ran_once_and_in_order, lambda nb: nb.cells[2].update(execution_count=2)),
    (every_section_compares_an_output, lambda nb: nb.cells[2].update(outputs=[])),
    (every_section_compares_an_output, lambda nb: nb.cells[2].update(outputs=nb.cells[FIGURE].outputs[:1])),
    (every_section_compares_an_output, tag(2, "nbval-ignore-output")),
    (only_a_guess_shows_nothing, lambda nb: nb.cells[2].update(outputs=[])),
    (tags_and_slide_types_are_known, tag(2, "nbval-ignore-ouput")),
    (tags_and_slide_types_are_known, tag(2, "nbval-skip")),
    (tags_and_slide_types_are_known, lambda nb: nb.cells[2].metadata.update(slideshow={"slide_type": "slid"})),
    (no_cell_fails_or_warns, lambda nb: nb.cells[2].outputs[0].update(name="stderr")),
    (
        no_cell_fails_or_warns,
        lambda nb: nb.cells[2].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=[])),
    ),
    (no_path_address_version_or_time_is_printed, says("/home/me/course")),
    (no_path_address_version_or_time_is_printed, says("<Conv2d at 0x7f3a10>")),
    (no_path_address_version_or_time_is_printed, says("torch 2.13.0")),
    (no_path_address_version_or_time_is_printed, says("it took 3.1 ms")),
    (no_long_float_is_printed, says("0.3725")),
    (no_long_float_is_printed, says("1e-07")),
    (pictures_are_png_and_have_alt_text, lambda nb: nb.cells[FIGURE].outputs[0].update(metadata={})),
    (pictures_are_png_and_have_alt_text, lambda nb: nb.cells[FIGURE].outputs[0].data.update({"image/svg+xml": "<svg/>"})),
    (pictures_are_png_and_have_alt_text, edit(0, "CPU.", "CPU. ![](assets/cat.png)")),
    (every_link_and_picture_is_in_the_checkout, edit(0, "CPU.", "CPU. ![a cat](https://example.org/cat.png)")),
    (every_link_and_picture_is_in_the_checkout, edit(0, "geometry.py", "geometrie.py")),
    (at_most_one_cell_is_ignored_and_says_why, tag(2, "nbval-ignore-output")),
    (at_most_one_cell_is_ignored_and_says_why, both(tag(2, "nbval-ignore-output"), tag(5, "nbval-ignore-output"))),
    (the_file_is_small_and_holds_nothing_but_the_course, says("x" * SIZE_CAP)),
    (the_file_is_small_and_holds_nothing_but_the_course, lambda nb: nb.metadata.update(toc={})),
    (
        the_file_is_small_and_holds_nothing_but_the_course,
        lambda nb: nb.cells[2].metadata.update(execution={"iopub.status.idle": "now"}),
    ),
    (no_line_of_code_ends_in_a_semicolon, edit(2, "print(0)", "print(0);")),
    (equality_is_shown_and_not_asserted, edit(2, "print(0)", "assert True\nprint(0)")),
    (the_machinery_stays_out_of_sight, edit(2, "print(0)", "print(0)  # NBVAL_SKIP")),
    (the_machinery_stays_out_of_sight, edit(3, "a claim", "a theorem")),
    (the_machinery_stays_out_of_sight, edit(3, "a claim", "CI")),
    (a_cell_is_a_slide, edit(2, "print(0)", "print(0)\n" * 9)),
    (a_cell_is_a_slide, says("0\n" * 13)),
    (the_argument_is_short, lambda nb: [edit(i, "a claim of thirty words ", "brief ")(nb) for i in range(1, 19) if i % 3 != 2]),
    (the_argument_is_short, lambda nb: [edit(i, "claim", "claim of many more words")(nb) for i in range(1, 19) if i % 3 != 2]),
    (
        the_argument_is_short,
        both(edit(1, "claim", "claim of many more very long words"), edit(3, "claim", "claim of many more very long words")),
    ),
    (
        the_argument_is_short,
        edit(1, "claim", "claim of so very, very many more words that nobody, ever, reads all of this to the end"),
    ),
    (most_cells_argue, lambda nb: nb.update(cells=nb.cells[:7] + nb.cells[19:])),
    (the_page_budget_is_kept, lambda nb: nb.update(cells=nb.cells + 14 * nb.cells[2:3])),
    (the_page_budget_is_kept, lambda nb: nb.update(cells=nb.cells + 27 * nb.cells[1:2])),
    (a_guess_is_one_empty_line_to_fill_in, edit(GUESS, "None", "1152")),
    (a_guess_is_one_empty_line_to_fill_in, edit(GUESS, "    # a number", "")),
    (a_guess_is_one_empty_line_to_fill_in, lambda nb: nb.cells.extend([nb.cells[GUESS]] * 2)),
    (a_card_has_a_stub_a_check_and_a_folded_hint_and_solution, edit(STUB, "return None", "return 2 * x")),
    (a_card_has_a_stub_a_check_and_a_folded_hint_and_solution, edit(STUB, "check(f", "check(g")),
    (a_card_has_a_stub_a_check_and_a_folded_hint_and_solution, edit(FOLDED, "Hint", "Note")),
    (a_card_has_a_stub_a_check_and_a_folded_hint_and_solution, edit(FOLDED, "def f", "def g")),
    (a_card_has_a_stub_a_check_and_a_folded_hint_and_solution, lambda nb: nb.update(cells=nb.cells + 2 * nb.cells[STUB:END])),
    (the_opener_says_what_for_how_long_and_on_what, edit(0, "# A title", "A title")),
    (the_opener_says_what_for_how_long_and_on_what, edit(0, "10 minutes", "soon")),
    (the_opener_says_what_for_how_long_and_on_what, edit(0, "../minideeplab/", "")),
    (the_close_asks_three_questions_then_says_what_was_shown_then_leads_on, edit(END, "<details>", "<div>")),
    (
        the_close_asks_three_questions_then_says_what_was_shown_then_leads_on,
        edit(END, "| doubled | counted |", 6 * "| doubled | counted |\n"),
    ),
    (
        the_close_asks_three_questions_then_says_what_was_shown_then_leads_on,
        edit(END, "On to [the library](../minideeplab)", "On to the library"),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_sample_keeps_the_rule(rule):
    assert list(rule(sample())) == []


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BROKEN)])
def test_a_broken_sample_is_noticed(rule, change):
    nb = sample()
    change(nb)
    assert list(rule(nb)) != []


def test_every_rule_has_been_broken():
    assert {rule for rule, _ in BROKEN} == set(RULES)


# ---- and the breaks of `make mutants`, which takes minutes, can all be made


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_break_finds_its_text_once(mutation):
    assert not_once(mutation) == []


@pytest.mark.parametrize(
    "place", ["geometry.py", "nothing.py", "blocks", "cost/formulas.py::nothing", "cost/formulas.py::separable"]
)
def test_a_break_without_its_text_is_noticed(place):
    assert len(not_once(Mutation("no such text", "01", place, "no such text", ""))) == 1
