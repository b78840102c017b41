"""The words of the course: docs/glossary.md leads somewhere, and a word is explained where it first stands.

docs/origin.md and docs/teaching.md are read here too: their sums, the sections that they name, the points of the exam.

The rule. Read the notebooks' markdown in order, answers included, without code spans and the closing tables (those repeat
docs/claims.md). In the cell where a word first stands, or in an earlier one of that notebook, one of these must hold:

- it is set off, in *italics* or **bold**, alone or with three words more at most;
- a parenthesis explains it, `word (what it is)`, or names it, `what it is (word)`;
- its sentence says what it is: `word is ...`, `word counts ...`, `... calls it word`;
- its sentence names the notebook that explains it: 06, (06 to 09), or a link;
- the words that explain it without any such mark are quoted in SAID below, and stand there.

An opener may use a word that its own notebook explains further down. The notebook must be the one that the glossary links.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TEACHING = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
ORIGIN = (ROOT / "docs" / "origin.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}

WORDS = {  # a word of the glossary: how it is written in the notebooks, if not just so
    "convolution": "", "cross-correlation": "", "kernel": "", "channel": "", "padding": "", "stride": r"strides?",
    "receptive field": "", "1 x 1": "", "batch norm": r"batch norms?", "running statistics": "", "ReLU": "", "ELU": "",
    "ReLU6": "", "rank": r"ranks?", "tower": r"towers?", "Inception hypothesis": "", "concatenate": r"concatenat\w+",
    "auxiliary head": "", "segment": r"segments?", "grouped": r"group(s|ed)", "extreme": "", "depthwise": "",
    "pointwise": "", "depthwise separable": "", "channel multiplier": "", "shortcut": r"shortcuts?",
    "residual": r"(?<!inverted )residual", "inverted residual": "", "entry flow": r"entry[_ ]flow", "stem": "",
    "top-1": "", "dilation": r"dilat\w+", "rate": r"(?<!layer's )rates?", "atrous": "", "tap": r"taps?",
    "sub-grid": r"sub-grids?", "gridding": "", "output stride": r"output strides?", "multi-grid": "", "ASPP": "",
    "image pooling": "", "pyramid pooling": "", "spatial pyramid pooling": "", "backbone": "", "head": r"(?<!auxiliary )heads?",
    "encoder": r"encoders?", "decoder": r"decoders?", "skip connection": r"skip connections?|bridges?", "unpooling": "",
    "max pooling": "", "low-level features": r"low-level features?", "align_corners": "corners on corners",
    "bilinear": "", "logits": "", "IoU": "", "mIoU": "", "MAC": r"MACs?|multiply-accumulates?", "FLOP": r"FLOPs?",
    "multiply-adds": r"multiply-adds?", "arithmetic intensity": "", "roofline": "", "fold": r"fold(s|ed)?",
    "channels last": "", "ablation": r"ablations?", "VOC": "", "ImageNet": "", "COCO": "", "Cityscapes": "",
    "weight decay": r"weight decays?", "void": "", "poly schedule": "", "trimap": "",
    "chained residual pooling": "",
}  # fmt: skip
SAID = {  # explained in plain words, found by a reader
    "padding": "With a frame of zeros the map keeps its size", "stride": "one cell for 16 x 16 pixels",
    "1 x 1": "It makes new channels out of the old ones, at each pixel by itself",
    "tower": "on the same input, side by side; their outputs are concatenated",
    "concatenate": "side by side; their outputs are concatenated",
    "grouped": "a dense convolution whose kernel is zero wherever input and output belong to different segments",
    "inverted residual": "widens six times, looks, and narrows again",
    "sub-grid": "the *same* small kernel on every second pixel",
    "residual": "a shortcut carries the input *as it was* to the sum", "skip connection": "with maps from the way down",
    "unpooling": "the way up puts the value back there",
    "low-level features": "F2' knows where, on 129 x 129", "fold": "is a convolution again, with other weights and a bias",
    "ablation": "every pair of rows that differ in that change alone",
}  # fmt: skip
# Not yet explained where they first stand: this list may only shrink. A gap is mended by a clause in the notebook, and by a
# link in the glossary if it still says "not yet explained" there.
KNOWN_GAPS: set[str] = set()


class Cell(NamedTuple):
    notebook: str  # "06"
    index: int
    text: str


def plain(markdown: str) -> str:
    """One line without code spans and closing tables; of a link, its text and the number of the notebook that it leads to."""
    lines = "\n".join(markdown.split("| claim | here |")[:1] + re.findall(r"\nNew since.*", markdown, re.DOTALL))
    linked = re.sub(r"\]\((?:(\d\d)_)?[^)]*\)", r" \1]", lines)
    return " ".join(re.sub(r"```.*?```|`[^`]*`", "`", linked, flags=re.DOTALL).replace("[", "").replace("]", "").split())


@cache
def course() -> tuple[Cell, ...]:
    cells = [(n, i, c) for n, path in NOTEBOOKS.items() for i, c in enumerate(nbformat.read(path, as_version=4).cells)]
    return tuple(Cell(n, i, plain(c.source)) for n, i, c in cells if c.cell_type == "markdown")


def homes(glossary: str) -> dict[str, str]:
    """For each row of the glossary, what it is called in English and the number of the notebook it links, if any."""
    rows = [line.strip("| ").split(" | ") for line in glossary.splitlines() if line.startswith("| ")]
    links = [re.match(r"\[(\d\d)\]", row[-1]) for row in rows if row[0] != "English"]
    return {row[0]: link[1] if link else "" for row, link in zip([r for r in rows if r[0] != "English"], links, strict=True)}


def home(word: str, glossary: str = GLOSSARY) -> str:
    """The notebook that the glossary links for a word: of the row that is called so, else of the first that holds it."""
    rows = homes(glossary)
    named = [name for name in rows if word.lower() in re.split(r", | \(", name.lower())]
    held = [name for name in rows if re.search(rf"\b{re.escape(word)}\b", name, re.IGNORECASE)]
    if not held:
        raise LookupError(f"{word!r} is in no row of docs/glossary.md")
    return rows[(named or held)[0]]


def marked(text: str, word: str) -> bool:
    """Set off, explained by a parenthesis, or the subject of a definition."""
    few = r"(?:[^\s*]+ ){0,3}"
    ways = [
        rf"\*{{1,2}}{few}\b(?:{word})\b(?: [^\s*]+){{0,3}}[.:]?\*{{1,2}}",
        rf"\b(?:{word})\b \([^)]*[a-z]{{2,}} [^)]*[a-z]{{2,}}",
        rf"\((?:{word})\)",
        rf"\b(?:{word})\b(?:,[^,.]*,| count)? (?:is|are|means|counts|multiplies) ",
        rf"\bcalls? (?:it|this one|what [\w ]+) (?:an? )?\W*(?:{word})\b",
    ]
    return any(re.search(way, text, re.IGNORECASE) for way in ways)


def refers(text: str, word: str, number: str) -> bool:
    """Whether a sentence with this word names the notebook: 06, a range that holds it, or a link to it."""
    for sentence in re.split(r"(?<=[.?!;:]) (?=\W*[A-Z])| - ", text):
        ranges = [range(int(a), int(b) + 1) for a, b in re.findall(r"\b(\d\d) to (\d\d)\b", sentence)]
        if re.search(rf"\b(?:{word})\b", sentence, re.IGNORECASE) and (
            re.search(rf"\b{number}\b", sentence) or any(int(number) in numbers for numbers in ranges)
        ):
            return True
    return False


def unexplained(word: str, pattern: str, cells: tuple[Cell, ...], number: str, said: dict[str, str] = SAID) -> str | None:
    """Where a word first stands if nothing explains it there, else None; `number` is the notebook that explains it."""
    pattern = pattern or re.escape(word)
    first = next((c for c in cells if re.search(rf"\b(?:{pattern})\b", c.text, re.IGNORECASE)), None)
    if first is None:
        return f"{word}: stands in no notebook's text"
    opener = first.index == 0 and first.notebook == number
    near = [c for c in cells if c.notebook == first.notebook and (opener or c.index <= first.index)]
    if first.notebook == number and any(marked(c.text, pattern) for c in near):
        return None
    if word in said and any(said[word] in c.text for c in near):
        return None
    if number and first.notebook != number and refers(first.text, pattern, number):
        return None
    at = re.search(rf"\b(?:{pattern})\b", first.text, re.IGNORECASE)
    assert at
    return f"{word}: {first.notebook} cell {first.index}: ...{first.text[max(0, at.start() - 50) : at.end() + 50]}..."


def complaint(word: str, gap: str | None, known: set[str]) -> str | None:
    return (None if gap else f"{word} is explained now: take it out of KNOWN_GAPS") if word in known else gap


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_where_it_first_stands(word):
    assert complaint(word, unexplained(word, WORDS[word], course(), home(word)), KNOWN_GAPS) is None


def test_a_gap_that_is_mended_must_leave_the_list():
    assert complaint("widget", None, {"widget"}) == "widget is explained now: take it out of KNOWN_GAPS"
    assert complaint("widget", "widget: 03 cell 1", {"widget"}) is None
    assert complaint("widget", "widget: 03 cell 1", set()) == "widget: 03 cell 1"
    assert complaint("widget", None, set()) is None


def test_a_gap_is_a_word_of_the_list_and_what_is_said_is_needed():
    assert set(WORDS) >= KNOWN_GAPS | set(SAID)
    assert not KNOWN_GAPS & set(SAID)
    assert len(WORDS) - len(KNOWN_GAPS) > 35
    assert [word for word in SAID if not unexplained(word, WORDS[word], course(), home(word), said={})] == []


PAGE = "| English | explained in |\n|---|---|\n| widget, gadget | [06](06.ipynb) |\n"


@pytest.mark.parametrize(
    ("cells", "explained"),
    [
        ([("06", 1, "It has a *widget* at the end.")], True),
        ([("06", 1, "**One widget** is enough.")], True),
        ([("06", 1, "It needs a widget (a small part that turns).")], True),
        ([("06", 1, "It needs a small part that turns (widget).")], True),
        ([("06", 1, "A widget is a part that turns.")], True),
        ([("06", 1, "PyTorch calls it a widget.")], True),
        ([("03", 1, "It needs a widget (06).")], True),
        ([("03", 1, "It needs a widget (05 to 07).")], True),
        ([("03", 1, "Next: 06, the widget 06.")], True),
        ([("06", 0, "It needs a widget."), ("06", 4, "A *widget* turns.")], True),
        ([("06", 1, "It needs a widget.")], False),
        ([("06", 1, "It needs a widget."), ("06", 4, "A *widget* turns.")], False),  # too late
        ([("03", 0, "It needs a widget."), ("06", 4, "A *widget* turns.")], False),  # no word of where
        ([("03", 1, "It needs a widget (05).")], False),  # another notebook's number
        ([("03", 1, "A *widget* turns."), ("06", 1, "A *widget* turns.")], False),  # the glossary links another notebook
        ([("03", 1, "It needs a widget. The rest is 06.")], False),  # another sentence
        ([("06", 1, "*Whoever is in need of one more such widget must go elsewhere and ask.*")], False),  # no term, a sentence
        ([("06", 1, "It needs a widget (fig. 3).")], False),
        ([("06", 1, "It needs a part.")], False),  # the word stands nowhere
    ],
)
def test_what_counts_as_an_explanation(cells, explained):
    assert (unexplained("widget", "", tuple(Cell(*c) for c in cells), home("widget", PAGE)) is None) == explained


def test_a_word_that_the_glossary_lacks_is_noticed():
    assert home("gadget", PAGE) == "06"
    with pytest.raises(LookupError, match="'gizmo' is in no row"):
        home("gizmo", PAGE)


def test_code_and_closing_tables_are_not_read():
    table = "| claim | here | evidence |\n|---|---|---|\n| widget | exactly | seen |"
    assert plain(f"Use `widget`.\n\n{table}\n\nNew since then: [06, x](06_x.ipynb)") == "Use `. New since then: 06, x 06"


def sections(number: str) -> dict[str, str]:
    """A notebook's sections by their headings, all of their cells, code and printed lines too."""
    found: dict[str, str] = {}
    heading = ""
    for cell in nbformat.read(NOTEBOOKS[number], as_version=4).cells:
        top = re.match(r"#{1,2} (.*)", cell.source) if cell.cell_type == "markdown" else None
        heading = top[1].replace("*", "") if top else heading
        printed = [output.get("text", "") for output in cell.get("outputs", [])]
        found[heading] = "\n".join([found.get(heading, ""), cell.source, *printed])
    return found


def lost(glossary: str) -> list[str]:
    """Rows of a glossary that lead nowhere: no such file, no such heading, or none of the row's words in that section."""
    complaints = []
    for line in glossary.splitlines():
        link = re.search(r"^\| (.*?) \| .* \| \[(\d\d)\]\(\.\./notebooks/(\w+\.ipynb)\), \"(.*)\" \|$", line)
        if line.startswith("| ") and not link and "not yet explained" not in line and "| English |" not in line:
            complaints.append(f"neither linked nor 'not yet explained': {line}")
        if not link:
            continue
        name, number, file, heading = link.groups()
        path = NOTEBOOKS.get(number)
        text = sections(number).get(heading) if path and path.name == file else None
        words = [WORDS.get(w) or re.escape(w).replace(r"\ ", "[ _]") for w in re.split(r", | \(|\)| convolution", name) if w]
        if text is None:
            complaints.append(f"{name}: no section {heading!r} in {file}")
        elif not re.search("|".join(words), text, re.IGNORECASE):
            complaints.append(f"{name}: not a word of it in {heading!r} of {number}")
    return complaints


def test_every_row_of_the_glossary_leads_to_a_section_that_has_its_word():
    assert len(homes(GLOSSARY)) > 60
    assert lost(GLOSSARY) == []


@pytest.mark.parametrize(
    ("there", "complaint"),
    [
        ('[06](../notebooks/06_atrous_convolution.ipynb), "Can three taps reach further?"', ""),
        ("not yet explained", ""),
        ("somewhere", "neither linked nor"),
        ('[06](../notebooks/06_atrous.ipynb), "Can three taps reach further?"', "no section"),
        ('[06](../notebooks/06_atrous_convolution.ipynb), "Can four?"', "no section"),
        ('[06](../notebooks/06_atrous_convolution.ipynb), "What is asked of every pixel?"', "not a word of it"),
    ],
)
def test_a_row_that_leads_nowhere_is_noticed(there, complaint):
    found = lost(f"| dilation, rate | x | y | {there} |")
    assert bool(found) == bool(complaint)
    assert not complaint or complaint in found[0]


def verdicts(page: str) -> dict[str, int]:
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    found = [row[3] for row in cells if row[0] != "the article says"]
    return {verdict: found.count(verdict) for verdict in ("right", "refined", "wrong", "not judged")} | {"all": len(found)}


def test_the_page_of_the_origin_adds_up_and_names_tests_that_exist():
    count = verdicts(ORIGIN)
    total = count.pop("all")
    assert total == sum(count.values()) > 30
    assert f"{total} statements: " + ", ".join(f"{n} {verdict}" for verdict, n in count.items()) in ORIGIN
    written = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", ORIGIN))
    assert len(named) > 20
    assert named <= set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))


def test_a_row_without_a_verdict_would_not_add_up():
    count = verdicts("| a | its own | - | right | x |\n| b | its own | - | maybe | x |")
    assert (count["all"], count["right"]) == (2, 1)


def tagged() -> dict[tuple[str, str], int]:
    """How many cells each section has on the 90-minute route: those tagged `lecture`."""
    found: dict[tuple[str, str], int] = {}
    for number, path in NOTEBOOKS.items():
        heading = ""
        for cell in nbformat.read(path, as_version=4).cells:
            top = re.match(r"#{1,2} (.*)", cell.source) if cell.cell_type == "markdown" else None
            heading = top[1].replace("*", "") if top else heading
            if "lecture" in cell.metadata.get("tags", []):
                found[number, heading] = found.get((number, heading), 0) + 1
    return found


def route(page: str) -> list[tuple[str, str, int, int]]:
    """The rows of the route: notebook, section, cells, minutes."""
    rows = re.findall(r"^\| \[(\d\d)\]\(\S+\) \| ([^|]+) \| (\d+) \| (\d+) \| [^|]+ \|$", page, re.MULTILINE)
    return [(number, section, int(cells), int(minutes)) for number, section, cells, minutes in rows]


def test_the_90_minute_route_is_what_is_tagged_and_takes_90_minutes():
    rows = route(TEACHING)
    assert {(number, section): cells for number, section, cells, _ in rows} == tagged()
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert sum(minutes for *_, minutes in rows) == 90
    assert f"The {sum(cells for *_, cells, _ in rows)} cells tagged `lecture`" in TEACHING


def test_a_row_of_the_route_is_read_whole():
    assert route("| [03](x.ipynb) | What is it? | 2 | 4 | that it is |") == [("03", "What is it?", 2, 4)]
    assert route("| [03](x.ipynb) | What is it? | two | 4 | that it is |") == []


def test_each_half_of_the_two_lectures_takes_90_minutes_and_names_sections_that_exist():
    halves = re.findall(r"^\| \d \| .*?, (\d+) minutes \| (.*): (\d+) minutes \|$", TEACHING, re.MULTILINE)
    assert len(halves) == 2
    for ours, added, theirs in halves:
        named = re.findall(r"\[(\d\d)\]\([^)]*\) (.*?) \((\d+)\)(?:; |$)", added)
        assert len(named) > 8
        assert [(n, section) for n, section, _ in named if section not in sections(n)] == []
        assert sum(int(minutes) for *_, minutes in named) == int(theirs)
        assert int(ours) + int(theirs) == 90


def test_the_minutes_and_prerequisites_of_a_notebook_are_those_of_its_opener():
    rows = re.findall(r"^\| \[(\d\d)\]\(\S+\) \| ([^|]+) \| (\d+) \| [^|]{40,} \|$", TEACHING, re.MULTILINE)
    assert [number for number, *_ in rows] == list(NOTEBOOKS)
    for number, before, minutes in rows:
        opener = nbformat.read(NOTEBOOKS[number], as_version=4).cells[0].source
        assert f"{minutes} minutes" in opener
        assert re.findall(r"\d\d", before) == re.findall(r"\d\d", re.search(r"Builds on ([^.]*)\.", opener)[1])


def points(page: str) -> list[int]:
    """For each exam question the points of its answer."""
    return [sum(map(int, re.findall(r"\((\d)\)", answer))) for answer in re.findall(r"<details>.*?</details>", page, re.DOTALL)]


def test_twelve_questions_have_five_points_each():
    assert len(re.findall(r"^\*\*\d+\. .*\(\[\d\d\]", TEACHING, re.MULTILINE)) == 12
    assert points(TEACHING) == [5] * 12
    assert points("<details>- (a) so (2).\n- (b) or so (2).</details>") == [4]
