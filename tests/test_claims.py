"""The ledger of claims, docs/claims.md: what it says is shown is shown, and the notebooks say the same."""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
LEDGER = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VERDICTS = {"exactly", "in trend", "not here"}

Row = dict[str, str]  # a line of a table: the header's words and the cells under them


def rows(markdown: str) -> list[Row]:
    """The lines of every table that has the columns `claim`, `here` and `evidence`."""
    found: list[Row] = []
    header: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        cells = [" ".join(cell.split()) for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif {"claim", "here", "evidence"} <= set(header) and set(line) - set("|-: "):
            found.append(dict(zip(header, cells, strict=True)))
    return found


@cache
def names_of_tests() -> set[str]:
    """Every test function under tests/, by its name."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


@cache
def closing_table(path: Path) -> list[Row]:
    cells = nbformat.read(path, as_version=4).cells
    return rows("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def unsupported(ledger: list[Row]) -> list[str]:
    """Complaints: a verdict that is none, a test or notebook that does not say so, a proof that is missing."""
    complaints, tests = [], names_of_tests()
    concluded = {path.stem[:2]: {row["claim"] for row in closing_table(path)} for path in NOTEBOOKS}
    for row in ledger:
        named = re.findall(r"`(test_\w+)`", row["evidence"])
        linked = re.findall(r"\[(\d\d)\]\(\.\./notebooks/\1_\w+\.ipynb\)", row["evidence"])
        complaints += [f"verdict {row['here']!r} of {row['claim']!r}"] * (row["here"] not in VERDICTS)
        complaints += [f"no test is called {name}" for name in named if name not in tests]
        complaints += [
            f"notebook {n} does not say {row['claim']!r}" for n in linked if row["claim"] not in concluded.get(n, ())
        ]
        complaints += [f"nothing shows {row['claim']!r}"] * (row["here"] != "not here" and not named + linked)
        complaints += [f"no reason why not: {row['claim']!r}"] * (
            row["here"] == "not here" and len(row["evidence"].split()) < 2
        )
    claims = [row["claim"] for row in ledger]
    return complaints + [f"claimed twice: {claim!r}" for claim in sorted({c for c in claims if claims.count(c) > 1})]


def disagreements(notebook: list[Row], ledger: list[Row]) -> list[str]:
    """What a notebook's closing table says and the ledger does not."""
    known = {row["claim"]: row["here"] for row in ledger}
    return [
        f"{row['claim']!r} is {row['here']!r} in the notebook and {known.get(row['claim'], 'missing')!r} in docs/claims.md"
        for row in notebook
        if known.get(row["claim"]) != row["here"]
    ]


def test_every_claim_has_a_verdict_and_what_supports_it():
    assert len(rows(LEDGER)) > 40
    assert unsupported(rows(LEDGER)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_ledger_repeats_what_a_notebook_concludes(path):
    assert closing_table(path)
    assert disagreements(closing_table(path), rows(LEDGER)) == []


TABLE = "| claim | here | evidence |\n|---|---|---|\n| {} | {} | {} |\n"
GOOD = ("two and two are four", "exactly", "`test_every_claim_has_a_verdict_and_what_supports_it`")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, ""),
        ({1: "surely"}, "verdict 'surely'"),
        ({2: "`test_that_nobody_wrote`"}, "no test is called test_that_nobody_wrote"),
        ({2: "[99](../notebooks/99_nothing.ipynb)"}, "notebook 99 does not say"),
        ({2: "obvious"}, "nothing shows"),
        ({1: "in trend", 2: "later"}, "nothing shows"),
        ({1: "not here", 2: ""}, "no reason why not"),
        ({2: GOOD[2] + " |\n| " + " | ".join(GOOD)}, "claimed twice"),
    ],
)
def test_an_unsupported_claim_is_noticed(changes, complaint):
    cells = [changes.get(i, cell) for i, cell in enumerate(GOOD)]
    found = unsupported(rows(TABLE.format(*cells)))
    assert bool(found) == bool(complaint)
    assert not complaint or found[0].startswith(complaint)


@pytest.mark.parametrize("other", [("two and two are five", "exactly"), ("two and two are four", "in trend")])
def test_a_notebook_that_says_something_else_is_noticed(other):
    ledger = rows(TABLE.format(*GOOD))
    assert disagreements(rows(TABLE.format(*GOOD)), ledger) == []
    assert len(disagreements(rows(TABLE.format(*other, "seen")), ledger)) == 1
