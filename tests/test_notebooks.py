"""The contract of the notebooks: what nbval cannot see, since it passes a notebook whose outputs were stripped.

Each rule is a function from a notebook to its complaints, and its name is the claim. Beside the rules stands, for
each of them, a small notebook that breaks it and must be noticed.
"""

import copy
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from gate.regenerate import normalize
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
SIZE_CAP = 600_000  # bytes, pictures included
TAGS = {"lecture", "guess", "exercise", "solution", "raises-exception", "nbval-ignore-output"}
SLIDES = {"slide", "subslide", "fragment", "skip", "notes"}
BUDGET = {  # code cells, cells; each may be exceeded by a tenth
    "00": (6, 14), "01": (14, 34), "02": (12, 30), "03": (16, 38), "04": (20, 46), "05": (14, 36), "06": (20, 46),
    "07": (16, 38), "08": (16, 38), "09": (14, 36), "10": (18, 42), "11": (14, 36), "12": (14, 36),
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


def among_outputs(nb: NotebookNode, pattern: str, what: str) -> list[str]:
    return [f"{what} in an output: {m[0]!r}" for c in code(nb) for m in re.finditer(pattern, printed(c))]


# ---- the rules: execution and outputs


def every_code_cell_ran_once_and_in_order(nb: NotebookNode) -> list[str]:
    counts = [c.execution_count for c in code(nb)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}"]


def every_section_compares_an_output(nb: NotebookNode) -> list[str]:
    with_code = [s for s in sections(nb) if any(c.cell_type == "code" for c in s)]
    return [
        f"nothing is compared under {s[0].source[:60]!r}"
        for s in with_code
        if not any(printed(c).strip() for c in s if c.cell_type == "code")
    ]


def only_a_guess_shows_nothing(nb: NotebookNode) -> list[str]:
    return [f"no output: {c.source[:60]!r}" for c in code(nb) if not c.outputs and "guess" not in tags(c)]


def tags_and_slide_types_are_known(nb: NotebookNode) -> list[str]:
    unknown = [f"unknown tag {t!r}" for c in nb.cells for t in sorted(tags(c) - TAGS)]
    slides = [c.metadata.get("slideshow", {}).get("slide_type") for c in nb.cells]
    return unknown + [f"slide type {s!r} of cell {i}" for i, s in enumerate(slides, 1) if s not in SLIDES]


def no_cell_fails_or_warns(nb: NotebookNode) -> list[str]:
    return [
        f"stderr or error: {c.source[:60]!r}"
        for c in code(nb)
        if "raises-exception" not in tags(c) and any(o.output_type == "error" or o.get("name") == "stderr" for o in c.outputs)
    ]


def no_path_address_version_or_time_is_printed(nb: NotebookNode) -> list[str]:
    return (
        among_outputs(nb, r"(?<![\w.])/(home|root|tmp|work|usr|opt|var|Users)/\S*|\b[A-Z]:\\\S*", "absolute path")
        + among_outputs(nb, r"\b0x[0-9a-f]{5,}", "object address")
        + among_outputs(nb, r"\b\d+\.\d+\.\d+\S*", "version")
        + among_outputs(nb, r"\b\d+(\.\d+)? ?(s|ms|us|µs|ns|sec|seconds?)\b", "time")
    )


def no_long_float_is_printed(nb: NotebookNode) -> list[str]:
    return among_outputs(nb, r"\d+\.\d{3,}|\d(\.\d+)?e[+-]\d\d", "float")


def pictures_are_png_and_have_alt_text(nb: NotebookNode) -> list[str]:
    outputs = [o for c in code(nb) for o in c.outputs if "data" in o]
    vector = [
        f"{kind} is compared byte for byte" for o in outputs for kind in o.data if kind in ("image/svg+xml", "application/pdf")
    ]
    silent = [
        "a figure without alt text"
        for o in outputs
        if "image/png" in o.data and not o.metadata.get("image/png", {}).get("alt", "").strip()
    ]
    drawn = [
        m[0] for c in markdown(nb) for m in re.finditer(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=['\"][^'\"])[^>]*>", c.source)
    ]
    return vector + silent + [f"a picture without alt text: {text}" for text in drawn]


def every_link_and_picture_is_in_the_checkout(nb: NotebookNode) -> list[str]:
    targets = [m[1] or m[2] for c in markdown(nb) for m in re.finditer(r"\]\(([^)\s]+)|\bsrc=['\"]([^'\"]+)", c.source)]
    pictures = [
        m[1] or m[2]
        for c in markdown(nb)
        for m in re.finditer(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]*\bsrc=['\"]([^'\"]+)", c.source)
    ]
    remote = [f"a remote picture: {t}" for t in pictures if ":" in t]
    local = [t.partition("#")[0] for t in targets if ":" not in t and not t.startswith("#")]
    return remote + [f"a link to nothing: {t}" for t in local if not (NOTEBOOKS / t).resolve().exists()]


def at_most_one_cell_is_ignored_and_says_why(nb: NotebookNode) -> list[str]:
    ignored = [c for c in code(nb) if "nbval-ignore-output" in tags(c)]
    return [f"{len(ignored)} ignored cells"] * (len(ignored) > 1) + [
        f"ignored without a reason in its first line: {c.source[:60]!r}" for c in ignored if not c.source.startswith("# ")
    ]


def the_file_is_small_and_holds_nothing_but_the_course(nb: NotebookNode) -> list[str]:
    size, canonical = len(nbformat.writes(nb).encode()), copy.deepcopy(nb)
    normalize(canonical)
    return [f"{size} bytes"] * (size > SIZE_CAP) + ["not as `make notebooks` writes it"] * (canonical != nb)


# ---- the rules: what a learner sees


def no_line_of_code_ends_in_a_semicolon(nb: NotebookNode) -> list[str]:
    return [f"trailing semicolon: {line!r}" for c in code(nb) for line in lines(c.source) if line.rstrip().endswith(";")]


def equality_is_shown_and_not_asserted(nb: NotebookNode) -> list[str]:
    return [f"assert: {line!r}" for c in code(nb) for line in lines(c.source) if re.match(r"\s*assert\b", line)]


def the_machinery_stays_out_of_sight(nb: NotebookNode) -> list[str]:
    return [
        f"{m[0]!r} in {c.source[:60]!r}"
        for c in nb.cells
        for m in re.finditer(r"(?i:\b(theorem|ledger|nbval)\w*)|\bCI\b", c.source)
    ]


def a_cell_is_a_slide(nb: NotebookNode) -> list[str]:
    short = [c for c in code(nb) if not c.source.startswith("# listing")]
    return [f"{len(lines(c.source))} lines of code: {c.source[:60]!r}" for c in short if len(lines(c.source)) > 8] + [
        f"{len(lines(printed(c)))} lines of output: {c.source[:60]!r}" for c in short if len(lines(printed(c))) > 12
    ]


def the_argument_is_short(nb: NotebookNode) -> list[str]:
    counts = [words(c) for c in argument(nb)] or [0]
    long = [f"{words(c)} words: {c.source[:60]!r}" for c in argument(nb) if words(c) > 60]
    median = statistics.median(counts)
    return [f"median of {median} words in a markdown cell"] * (not 25 <= median <= 40) + long * (
        len(long) > 1 or max(counts) > 120
    )


def most_cells_argue(nb: NotebookNode) -> list[str]:
    frame = {id(c) for c in [*nb.cells[:1], *cards(nb), *close(nb)]} | {id(c) for c in code(nb) if "guess" in tags(c)}
    return [f"opener, guesses, cards, quiz and close are {len(frame)} of {len(nb.cells)} cells"] * (
        3 * len(frame) > len(nb.cells)
    )


def the_page_budget_is_kept(nb: NotebookNode) -> list[str]:
    most_code, most = BUDGET[nb["stem"][:2]]
    counted = (("code cells", len(code(nb)), most_code), ("cells", len(nb.cells), most))
    return [f"{n} {what}, the budget is {most}" for what, n, most in counted if 10 * n > 11 * most]


def a_guess_is_one_empty_line_to_fill_in(nb: NotebookNode) -> list[str]:
    guesses = [c for c in code(nb) if "guess" in tags(c)]
    form = [f"not a guess: {c.source!r}" for c in guesses if not re.fullmatch(r"\w+ = None\s+# \S.*", c.source) or c.outputs]
    return [f"{len(guesses)} guesses"] * (len(guesses) > 2) + form


def a_card_has_a_stub_a_check_and_a_folded_hint_and_solution(nb: NotebookNode) -> list[str]:
    found, stubs = [], [i for i, c in enumerate(nb.cells) if "exercise" in tags(c)]
    for i in stubs:
        stub, after = nb.cells[i].source, nb.cells[i + 1].source if i + 1 < len(nb.cells) else ""
        name = "".join(re.findall(r"^def (\w+)\(", stub, re.MULTILINE)[:1]) or "?"
        found += [
            f"the stub lacks {text!r}" for text in (f"def {name}(", "\n    return None", f"\ncheck({name},") if text not in stub
        ]
        solution = rf"<details>\s*<summary>Solution</summary>\s*```python\n.*?^def {name}\("
        folded = {"hint": r"<details>\s*<summary>Hint</summary>", f"solution that defines {name}": solution}
        found += [
            f"no folded {what} after the stub"
            for what, p in folded.items()
            if not re.search(p, after, re.MULTILINE | re.DOTALL)
        ]
    return [f"{len(stubs)} cards"] * (len(stubs) > 2) + found


def the_opener_says_what_for_how_long_and_on_what(nb: NotebookNode) -> list[str]:
    opener = nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""
    wanted = {
        "a title": r"\A# \S",
        "what one can do after it": "After this notebook you can",
        "minutes": r"\d+ minutes",
        "CPU": r"\bCPU\b",
    }
    module = {"a link to its module": r"\]\(\.\./minideeplab/[\w/]+\.py\)"}
    return [f"the opener lacks {what}" for what, pattern in (wanted | module).items() if not re.search(pattern, opener)]


def the_close_asks_three_questions_then_says_what_was_shown_then_leads_on(nb: NotebookNode) -> list[str]:
    text = "\n".join(c.source for c in close(nb) if c.cell_type == "markdown")
    folded, rows = (
        list(re.finditer(r"<details>.*?</details>", text, re.DOTALL)),
        list(re.finditer(r"^\|.*$", text, re.MULTILINE)),
    )
    table = text[rows[0].start() : rows[-1].end()] if rows else ""
    found = [f"{len(folded)} folded answers in the last section"] * (len(folded) != 3)
    found += ["one table, of one to five rows"] * (not 3 <= len(rows) <= 7 or len(table.splitlines()) != len(rows))
    found += ["the table comes after the questions"] * bool(rows and folded and rows[0].start() < folded[-1].end())
    return found + ["no link onward after the table"] * (not re.search(r"\]\([^)]+\)", text[rows[-1].end() if rows else 0 :]))


Rule = Callable[[NotebookNode], list[str]]
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
    complaints = rule(read(path))
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
    stub = run("def f(x):\n    return None\n\n\ncheck(f, {1: 2})", stream("not tried yet\n"), tag="exercise")
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
    assert rule(sample()) == []


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BROKEN)])
def test_a_broken_sample_is_noticed(rule, change):
    nb = sample()
    change(nb)
    assert rule(nb) != []


def test_every_rule_has_been_broken():
    assert {rule for rule, _ in BROKEN} == set(RULES)
