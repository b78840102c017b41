"""The course as a whole: the lecture runs alone, no name is used before it is defined, and enough breaks are known.

The lecture is the cells tagged `lecture` of all notebooks, from top to bottom, in one kernel: what a cell between them
defined is not there, and what an earlier notebook defined still is. Names are followed without running anything; then the
lecture is run.
"""

import ast
import builtins
import copy
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from mutants import MUTATIONS, Mutation
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from regenerate import ONE_THREAD, execute, merged
from test_notebooks import NOTEBOOKS, PATHS, printed, read, tags

FEWEST, MOST, IN_EACH = 40, 50, 2  # cells of the lecture, code and markdown: 90 minutes, and no notebook is skipped
BREAKS, BREAKS_IN_EACH, BROKEN_NOTEBOOKS = 50, 2, [f"{number:02}" for number in range(4, 14)]


class Cell(NamedTuple):
    """A cell and where it stands: the notebook's stem and the number of the cell in it."""

    where: str
    cell: NotebookNode


def course() -> list[list[Cell]]:
    """All cells, notebook by notebook."""
    return [[Cell(f"{path.stem} cell {i}", cell) for i, cell in enumerate(read(path).cells)] for path in PATHS]


def lecture(notebooks: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [cell for cells in notebooks for cell in cells if "lecture" in tags(cell.cell)]


# ---- names, followed without running anything

SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def bound(body: Sequence[ast.AST]) -> set[str]:
    """What the statements of one scope bind: assignments, imports, definitions and caught errors."""
    names, rest = set(), list(body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name:
            names.add(node.name)
        rest += [] if isinstance(node, SCOPES) else ast.iter_child_nodes(node)
    return names


class Names(ast.NodeVisitor):
    """Walks through cells in the order in which they run, and complains of names that nothing before has defined.

    A function's body is read when its name is: only then must the globals that it reads be there.
    """

    def __init__(self) -> None:
        """Nothing is defined but what Python and a kernel bring."""
        self.defined = {*dir(builtins), "__name__", "display"}
        self.needs: dict[str, set[str]] = {}  # of a function or class: the globals that its body reads
        self.locals: list[set[str]] = []  # one for each scope around, the innermost last
        self.body: set[str] | None = None  # where a function's globals are written down while its body is read
        self.missing: set[str] = set()

    def run(self, source: str) -> list[str]:
        """The names that this cell reads too early."""
        self.missing = set()
        self.visit(ast.parse(source))
        return sorted(self.missing)

    def use(self, name: str) -> None:
        if any(name in scope for scope in self.locals):
            return
        if self.body is not None:
            self.body.add(name)
            return
        seen, rest = {name}, [(name, name)]
        while rest:  # what it needs, and what that needs
            needed, path = rest.pop()
            if needed not in self.defined:
                self.missing.add(path)
            following = self.needs.get(needed, set()) - seen
            seen |= following
            rest += [(other, f"{other}, in {needed}") for other in following]

    def bind(self, name: str) -> None:
        if self.locals:
            self.locals[-1].add(name)
        else:
            self.defined.add(name)
            self.needs.pop(name, None)

    @contextmanager
    def scope(self, names: set[str]) -> Iterator[None]:
        self.locals.append(names)
        yield
        self.locals.pop()

    def all(self, *nodes: ast.AST | Sequence[ast.AST | None] | None) -> None:
        for node in nodes:
            for each in node if isinstance(node, Sequence) else [node]:
                if each is not None:
                    self.visit(each)

    def visit_Name(self, node: ast.Name) -> None:
        (self.use if isinstance(node.ctx, ast.Load) else self.bind)(node.id)
        if isinstance(node.ctx, ast.Del) and not self.locals:
            self.defined.discard(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        self.bind((node.asname or node.name).partition(".")[0])

    def visit_Assign(self, node: ast.Assign) -> None:
        self.all(node.value, node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.all(node.annotation, node.value, node.target if node.value else None)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use(node.target.id)
        self.all(node.value, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.all(node.value, node.target)

    def visit_For(self, node: ast.For) -> None:
        self.all(node.iter, node.target, node.body, node.orelse)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.all(node.type)
        with self.scope({node.name} if node.name else set()):  # Python forgets the error behind its block
            inner = self.locals[-1]
            self.all(node.body)
        for name in inner - {node.name}:
            self.bind(name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.all(node.args.defaults, node.args.kw_defaults)
        with self.scope(arguments(node.args)):
            self.visit(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        hints = [argument.annotation for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
        self.all(node.decorator_list, node.args.defaults, node.args.kw_defaults, hints, node.returns)
        shared = {name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names}
        self.define(node, arguments(node.args) | bound(node.body) - shared)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.all(node.decorator_list, node.bases, [keyword.value for keyword in node.keywords])
        self.define(node, bound(node.body))

    def define(self, node: ast.FunctionDef | ast.ClassDef, names: set[str]) -> None:
        outer, self.body = self.body, set() if self.body is None else self.body
        with self.scope(names):
            self.all(node.body)
        needs, self.body = self.body, outer
        self.bind(node.name)
        if not self.locals and outer is None:
            self.needs[node.name] = needs

    def visit_comprehension_of(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        with self.scope(set()):
            for part in node.generators:
                self.all(part.iter, part.target, part.ifs)
            self.all(*([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]))

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_comprehension_of


def arguments(node: ast.arguments) -> set[str]:
    return {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}


def undefined(cells: Sequence[Cell]) -> list[str]:
    """A complaint for each name that a code cell reads and no cell before it, of these, has defined."""
    names = Names()
    found = [(where, names.run(cell.source)) for where, cell in cells if cell.cell_type == "code"]
    return [f"{where} reads {name}, which nothing before it has defined" for where, missing in found for name in missing]


def complain(complaints: Sequence[str]) -> None:
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def test_no_name_of_the_lecture_is_used_before_it_is_defined():
    complain(undefined(lecture(course())))


@pytest.mark.parametrize("cells", course(), ids=[path.stem for path in PATHS])
def test_no_name_of_a_notebook_is_used_before_it_is_defined(cells):
    complain(undefined(cells))


@pytest.mark.parametrize("cells", course(), ids=[path.stem for path in PATHS])
def test_a_notebook_without_its_first_code_cell_is_noticed(cells):
    first = next(cell for cell in cells if cell.cell.cell_type == "code")
    assert undefined([cell for cell in cells if cell is not first]) != []


# ---- the lecture, run


def run_alone(cells: Sequence[Cell]) -> list[str]:
    """Run these code cells and no others, from top to bottom, in a fresh kernel; complaints of the first error, or of output.

    Each must print what it prints in its notebook: a name that another notebook left behind may do instead of the right
    one, and then only the output tells. An ignored cell is run, and what it prints is not compared.
    """
    alone = [(where, cell) for where, cell in cells if cell.cell_type == "code"]
    notebook = new_notebook(cells=[new_code_cell(cell.source, metadata=copy.deepcopy(cell.metadata)) for _, cell in alone])
    try:
        execute(notebook, NOTEBOOKS)
    except CellExecutionError as error:
        failed = next(i for i, cell in enumerate(notebook.cells) if any(o.output_type == "error" for o in cell.outputs))
        return [f"{alone[failed][0]} fails when the lecture runs alone: {error.ename}: {error.evalue}"]
    for cell in notebook.cells:
        cell.outputs = merged(cell.outputs)
    shown = [(where, printed(cell), printed(new)) for (where, cell), new in zip(alone, notebook.cells, strict=True)]
    return [f"{where} prints\n{new}\nalone, and in its notebook\n{old}" for where, old, new in shown if old != new]


@pytest.fixture
def as_in_jupyter(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name, value in (ONE_THREAD | {"JUPYTER_PREFER_ENV_PATH": "1"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("as_in_jupyter")
def test_the_lecture_runs_alone_and_prints_what_the_notebooks_print():
    complain(run_alone(lecture(course())))


# ---- the lecture fits into 90 minutes and skips no notebook


def off_budget(notebooks: Sequence[Sequence[Cell]]) -> list[str]:
    count = len(lecture(notebooks))
    found = [] if FEWEST <= count <= MOST else [f"the lecture has {count} cells, it should have {FEWEST} to {MOST}"]
    few = [(cells[0].where.split()[0], len(lecture([cells]))) for cells in notebooks if len(lecture([cells])) < IN_EACH]
    return found + [f"{stem} gives the lecture {number} cells, it should give at least {IN_EACH}" for stem, number in few]


def test_the_lecture_fits_into_90_minutes_and_skips_no_notebook():
    complain(off_budget(course()))


# ---- enough breaks


def too_few_breaks(mutations: Sequence[Mutation]) -> list[str]:
    of = Counter(mutation.catcher for mutation in mutations)
    found = [] if len(mutations) >= BREAKS else [f"{len(mutations)} breaks, at least {BREAKS} are asked for"]
    few = [number for number in BROKEN_NOTEBOOKS if of[number] < BREAKS_IN_EACH]
    return found + [f"{of[number]} breaks for notebook {number}, at least {BREAKS_IN_EACH} are asked for" for number in few]


def test_there_are_breaks_enough_over_the_library_and_for_each_new_notebook():
    complain(too_few_breaks(MUTATIONS))


# ---- each of these notices what it is for


def notebook(number: str, *sources: str, tag: str = "lecture") -> list[Cell]:
    return [Cell(f"{number} cell {i}", new_code_cell(source, metadata={"tags": [tag]})) for i, source in enumerate(sources)]


FIRST = notebook("01", "import math\nwidth = 12", "def area(side):\n    return math.pi * side * width", "area(2)")
SECOND = notebook(
    "02",
    "stops = [s for s in range(1, width + 1) if width % s == 0]\ntotal = 0\nfor stop in stops:\n    total += stop",
    "f'{total:,}'",
)


def test_a_sample_course_has_all_its_names():
    assert undefined(FIRST + SECOND) == []


@pytest.mark.parametrize("gone", range(3))
def test_a_cell_removed_is_noticed(gone):
    whole = FIRST + SECOND
    number = [0, 1, 3][gone]  # those that others build on
    assert undefined(whole[:number] + whole[number + 1 :]) != []


def test_a_cell_that_is_not_in_the_lecture_defines_nothing_for_it():
    skipped = notebook("01", "width = 12", tag="exercise")
    assert undefined(skipped + SECOND) == []
    assert undefined(lecture([skipped, SECOND]))[0] == "02 cell 0 reads width, which nothing before it has defined"


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a = b"], ["b"]),
        (["print(a)\na = 1"], ["a"]),
        (["a += 1"], ["a"]),
        (["[i for i in range(3)]", "i"], ["i"]),
        (["del a"], []),
        (["a = 1\ndel a", "a"], ["a"]),
        (["f = lambda x: x + y"], ["y"]),
        (["def f():\n    return y"], []),
        (["def f():\n    return y", "f()"], ["y, in f"]),
        (["def f():\n    return y", "y = 1", "f()"], []),
        (["def f():\n    return g()\ndef g():\n    return y", "print(f)"], ["y, in g"]),
        (["def f(a, *b, c=d, **e):\n    x, g = a, c\n    return x, b, e, g"], ["d"]),
        (["def f(y):\n    return [x + y for x in range(y)]", "f(1)"], []),
        (["def f():\n    [x for x in range(3)]\n    return x", "f()"], ["x, in f"]),
        (["def f(x):\n    def g():\n        return x + y\n    return g", "f(1)"], ["y, in f"]),
        (["def f():\n    return y\ndef f():\n    return 1", "f()"], []),
        (["def f():\n    global y\n    y += 1", "f()"], ["y, in f"]),
        (["class A(B):\n    def f(self):\n        return y", "A()"], ["B", "y, in A"]),
        (["try:\n    a = 1\nexcept ValueError as error:\n    print(error)\n    b = a", "b, error"], ["error"]),
        (["with open('x') as file, torch.no_grad():\n    y = file", "y"], ["torch"]),
        (["import a.b as c, d.e\nfrom f import g as h", "c, d, h, e, g"], ["e", "g"]),
        (["if (n := 2) > 1:\n    a = n\nelse:\n    b = 1", "a, b, n"], []),
        (["{k: v for k, v in {1: m}.items() if k}\n(a, *b), c[0] = q"], ["c", "m", "q"]),
    ],
)
def test_names_are_followed_as_python_does(sources, names):
    complaints = undefined(notebook("01", *sources))
    assert [re.search(r"reads (.*), which", text)[1] for text in complaints] == names


@pytest.mark.usefixtures("as_in_jupyter")
def test_a_lecture_that_fails_or_prints_something_else_is_noticed():
    cells = notebook("01", "from minideeplab.course import plot, show\nx = 1", "print(x)\nx", "len(crow)")
    cells[1].cell.outputs = [NotebookNode(output_type="stream", name="stdout", text="2\n")]
    (failed,) = run_alone(cells)
    assert failed.startswith("01 cell 2 fails when the lecture runs alone: NameError")
    (other,) = run_alone(cells[:2])
    assert other == "01 cell 1 prints\n1\n1\nalone, and in its notebook\n2"


@pytest.mark.parametrize(
    ("sizes", "count"), [([2, 38], 0), ([25, 25], 0), ([2, 37], 1), ([26, 25], 1), ([1, 44], 1), ([0, 39], 2)]
)
def test_a_lecture_too_long_or_too_short_or_with_a_gap_is_noticed(sizes, count):
    cell = new_markdown_cell("a claim", metadata={"tags": ["lecture"]})
    untagged = new_markdown_cell("an aside")
    notebooks = [[Cell("01 cell 0", untagged), *[Cell("01 cell 1", cell)] * size] for size in sizes]
    assert len(off_budget(notebooks)) == count


def test_breaks_too_few_are_noticed():
    row = MUTATIONS[0]
    enough = [row._replace(catcher=number) for number in BROKEN_NOTEBOOKS for _ in range(6)]
    assert too_few_breaks(enough) == []
    assert too_few_breaks(enough[:-5]) == ["1 breaks for notebook 13, at least 2 are asked for"]
    assert too_few_breaks(enough[:49]) == [
        "49 breaks, at least 50 are asked for",
        "1 breaks for notebook 12, at least 2 are asked for",
        "0 breaks for notebook 13, at least 2 are asked for",
    ]
