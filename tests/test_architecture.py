"""The shape of the library: floors, rooms without circles, budgets that bind, what must not be in it."""

import ast
import inspect
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from torch import nn

import minideeplab

ROOT = Path(minideeplab.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))

# From the ground up: a file imports from the floors below, or from its own room.
FLOORS = [
    {"checks", "geometry", "image"},
    {"blocks", "cost", "weights"},
    {"networks", "course", "inference"},
    {"learn"},
    {"cli"},
    {"__main__"},
]
LADDER = ["convolution", "inception", "extreme", "separable", "atrous", "aspp", "decoder"]  # the order of learning
NO_NETWORK = {"cost", "weights", "inference"}  # they take any module
HEAVY = {  # optional packages, and the rooms that may name them
    # lesson: the name of a type only
    "matplotlib": {"course.plot", "course.boxes", "course.curves", "course.schematic", "course.lesson"},
    "ipywidgets": {"course.explorer"},
    "IPython": {"course.lesson"},
    "PIL": {"learn.photo"},
    "h5py": {"weights"},
    "tqdm": {"cost.timing", "learn.train"},
}
LONGEST, TABLES = 300, {"cost/published.py"}
BUDGETS = {"blocks and networks": 1750, "a figure": 150}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    return name.split(".")[0]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


def imported(path: Path) -> set[str]:
    """Everything that a file imports, by full name; `from a import b` is a.b if that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if (ROOT.parent / f"{name.replace('.', '/')}.py").exists()}
            found |= modules or {node.module}
    return found


def ours(imports: set[str]) -> set[str]:
    return {name.removeprefix("minideeplab.") for name in imports if name.startswith("minideeplab.")}


def upward(name: str, imports: set[str]) -> list[str]:
    """What this file must not import: a room of its own floor, a floor above it, a later rung, a network."""
    wrong = []
    for other in ours(imports):
        if room(other) != room(name) and floor(other) >= floor(name) and not {name, other} <= FLOORS[0]:
            wrong.append(f"{name} imports {other}, which is not below it")
        rungs = [LADDER.index(rung) for rung in (name.removeprefix("blocks."), other.removeprefix("blocks.")) if rung in LADDER]
        if len(rungs) == 2 and rungs[1] >= rungs[0] and room(name) == "blocks":
            wrong.append(f"{name} imports {other}, a later rung")
        if room(name) in NO_NETWORK and room(other) == "networks":
            wrong.append(f"{name} knows {other}, and takes any module")
    return wrong


@pytest.mark.parametrize("path", [p for p in FILES if p != ROOT / "__init__.py"], ids=module_of)
def test_imports_only_go_downward(path):
    assert upward(module_of(path), imported(path)) == []


@pytest.mark.parametrize(
    ("name", "imports"),
    [("geometry", "blocks.aspp"), ("blocks.aspp", "blocks.decoder"), ("weights.storage", "networks.xception"),
     ("cost.report", "blocks.aspp"), ("networks.xception", "course.plot"), ("inference", "networks.resnet")],
)  # fmt: skip
def test_an_import_upward_is_noticed(name, imports):
    assert upward(name, {f"minideeplab.{imports}"})


def test_there_is_no_circle():
    graph = {module_of(path): ours(imported(path)) for path in FILES if path.name != "__init__.py"}
    TopologicalSorter(graph).prepare()
    with pytest.raises(CycleError):
        TopologicalSorter(graph | {"checks": {"cli.models"}}).prepare()


def test_the_layout_is_the_one_that_is_promised():
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} <= set.union(*FLOORS)
    assert {module_of(path) for path in ROOT.glob("*.py")} - {""} <= set.union(*FLOORS) | {"__init__"}
    assert set(LADDER) <= {path.stem for path in (ROOT / "blocks").glob("*.py")}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_but_torch_numpy_and_safetensors_is_needed(path):
    known = set(sys.stdlib_module_names) | {"minideeplab", "torch", "numpy", "safetensors"}
    others = {name.partition(".")[0] for name in imported(path)} - known
    assert others <= {package for package, users in HEAVY.items() if users & {module_of(path), room(module_of(path))}}


def test_importing_the_library_imports_none_of_the_optional_packages():
    import subprocess

    check = (
        f"import sys, minideeplab; print(sorted(set({sorted(HEAVY)}) & set(sys.modules) - {{'tqdm'}}))"  # torch may import tqdm
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def lines(folder: str) -> dict[str, int]:
    return {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in ROOT.glob(f"{folder}*.py")}


def test_budgets_bind():
    """A figure is read in one sitting; what surrounds the figures is not larger than they are."""
    figures = lines("blocks/") | lines("networks/")
    assert {name for name, count in figures.items() if count > BUDGETS["a figure"]} == set()
    assert sum(figures.values()) <= BUDGETS["blocks and networks"]
    assert sum(lines("cli/").values()) < sum(lines("blocks/").values())
    assert {name for name, count in lines("**/").items() if count > LONGEST} <= TABLES
    assert lines("course/")["course/lesson.py"] < 80


FORBIDDEN = {  # what ruff has no rule for
    "works in place": r"inplace=True|\.(relu|add|mul|clamp)_\(",
    "passes options through": r"def \w+\([^)]*\*\*kwargs",
    "plumbs": r"norm_layer|act_layer",
    "formats by hand where nothing formats": r"# fmt:",
    "names a result only to return it": r"\n( +)(\w+) = [^\n]+\n\1return \2\n",
}


def complaints(text: str) -> list[str]:
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_that_must_not_be_in_the_library(path):
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["nn.ReLU(inplace=True)", "def f(**kwargs)", "norm_layer=x", "x = 1  # fmt: skip", "def f():\n    x = 1\n    return x\n"],
)
def test_each_of_them_would_be_noticed(text):
    assert len(complaints(text)) == 1


def undocumented(text: str) -> list[str]:
    """Public methods without a docstring where ruff cannot except `forward` by name."""
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    inner = [node for outer in classes for node in outer.body if isinstance(node, ast.FunctionDef)]
    overrides = {"forward", "extra_repr", "error"}
    return [d.name for d in inner if not d.name.startswith("_") and d.name not in overrides and not ast.get_docstring(d)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_public_method_says_what_it_is(path):
    assert undocumented(path.read_text(encoding="utf-8")) == []


def test_a_silent_method_is_noticed():
    assert undocumented("class A:\n    'a'\n    def g(self): pass\n    def forward(self): pass") == ["g"]


def test_public_names_are_those_that_others_rely_on():
    promised = {
        "InceptionV3", "Xception", "xception41", "xception65", "xception71", "resnet101", "ASPP", "Decoder", "DeepLabV3",
        "DeepLabV3Plus", "SeparableConv2d", "SimplifiedInception", "SegmentedInception", "ExtremeInception", "Features",
    }  # fmt: skip
    assert promised <= set(minideeplab.__all__)
    assert len(set(minideeplab.__all__)) == len(minideeplab.__all__)
    assert not [name for name in minideeplab.__all__ if name.startswith("_") or not hasattr(minideeplab, name)]


@pytest.mark.parametrize("name", minideeplab.__all__)
def test_every_public_name_says_what_it_is(name):
    subject = getattr(minideeplab, name)
    assert subject.__doc__
    assert subject.__doc__ != getattr(nn.Module, "__doc__", None)
    said = inspect.getdoc(subject) or ""
    is_module = inspect.isclass(subject) and issubclass(subject, nn.Module)
    assert not is_module or "(N, " in said, f"{name} does not state its shapes"
