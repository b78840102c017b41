"""The shape of the library: who imports whom, how long a file may be, what must not be in it, what is documented."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from torch import nn

import minideeplab

ROOT = Path(minideeplab.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
LONGEST = 420  # lines: the papers' tables; the next is half of it
TOTAL = 5200

# A file may import what stands before it in this order. Within a row, in the order of the ladder.
ORDER = [
    ["geometry"],
    [f"blocks.{name}" for name in ("convolution", "inception", "extreme", "separable", "atrous", "aspp", "decoder")],
    [
        f"networks.{name}"
        for name in ("inception_v3", "xception", "aligned_xception", "resnet", "deeplab", "heads", "classifier")
    ],
    ["cost.field", "cost.reading", "cost.memory", "cost.shapes", "cost.table", "cost.formulas", "cost.report"],
    ["cost.multiply_adds", "cost.published", "cost", "cost.measure"],
    ["explorer", "keras_file", "names", "weights", "convert", "inference", "photo", "lesson", "plot"],
    ["subject", "commands", "__main__"],
]
PLACE = {name: i for i, name in enumerate(name for row in ORDER for name in row)}
NO_NETWORK = ("weights", "names", "keras_file", "inference", "cost", "explorer", "lesson")
HEAVY = {  # optional packages, and the files that may name them
    "matplotlib": {"plot", "lesson"},  # lesson: the name of a type only
    "ipywidgets": {"explorer"},
    "IPython": {"lesson"},
    "PIL": {"photo"},
    "h5py": {"keras_file", "weights"},
    "safetensors": {"weights", "convert"},
    "tqdm": {"cost.measure"},
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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


def downward(name: str, imports: set[str]) -> list[str]:
    """What this file must not import, because it stands after it or depends on more."""
    ours = {other.removeprefix("minideeplab.") for other in imports if other.startswith("minideeplab.")}
    late = [f"{name} imports {other}" for other in ours if PLACE[other] >= PLACE[name]]
    knows = [f"{name} knows {other}" for other in ours if name.split(".")[0] in NO_NETWORK and other.startswith("networks")]
    return late + knows + [f"{name} imports plot" for other in ours if other == "plot" and name != "__main__"]


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py"], ids=module_of)
def test_imports_only_go_upward(path):
    assert downward(module_of(path), imported(path)) == []


@pytest.mark.parametrize(
    ("name", "imports"),
    [("geometry", "blocks.aspp"), ("blocks.aspp", "blocks.decoder"), ("weights", "networks.xception"), ("lesson", "plot")],
)
def test_an_import_downward_is_noticed(name, imports):
    assert downward(name, {f"minideeplab.{imports}"})


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_but_torch_and_numpy_is_needed(path):
    others = (
        {name.partition(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - {"minideeplab", "torch", "numpy"}
    )
    assert others <= {package for package, users in HEAVY.items() if module_of(path) in users}


def test_importing_the_library_imports_none_of_the_optional_packages():
    import subprocess

    check = (
        f"import sys, minideeplab; print(sorted(set({sorted(HEAVY)}) & set(sys.modules) - {{'tqdm'}}))"  # torch may import tqdm
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_whole_library_has_fewer_lines_than_promised():
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) < TOTAL
    assert len((ROOT / "lesson.py").read_text(encoding="utf-8").splitlines()) < 80


FORBIDDEN = {
    "works in place": r"inplace=True|\.(relu|add|mul|clamp)_\(",
    "is not done": r"\b(TODO|FIXME|XXX)\b",
    "passes options through": r"def \w+\([^)]*\*\*kwargs",
    "unpickles": r"torch\.load\(|pickle\.load",
    "downloads": r"urllib|requests\.|load_state_dict_from_url",
    "plumbs": r"norm_layer|act_layer",
}


def complaints(text: str) -> list[str]:
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_that_must_not_be_in_the_library(path):
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ["nn.ReLU(inplace=True)", "# TODO", "def f(**kwargs)", "torch.load(p)", "urllib.request", "norm_layer=x"]
)
def test_each_of_them_would_be_noticed(text):
    assert len(complaints(text)) == 1


SPEAKS = {"commands", "convert", "photo", "lesson", "__main__"}  # what a terminal or a notebook asks to speak


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_what_is_asked_to_speak_prints(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert module_of(path) in SPEAKS or not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]


def undocumented(text: str) -> list[str]:
    """Public functions, classes and methods without a docstring; what overrides a method of somebody else needs none."""
    public = [ast.parse(text), *(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))]
    definitions = [node for node in public if not getattr(node, "name", "").startswith("_")]
    inner = [node for outer in definitions for node in outer.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    overrides = {"forward", "extra_repr", "error"}
    return [d.name for d in inner if not d.name.startswith("_") and d.name not in overrides and not ast.get_docstring(d)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_public_definition_says_what_it_is(path):
    assert undocumented(path.read_text(encoding="utf-8")) == []


def test_a_silent_definition_is_noticed():
    assert undocumented("def f(): pass\nclass A:\n    'a'\n    def g(self): pass\n    def forward(self): pass") == ["f", "g"]


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
    assert not is_module or re.search(r"\(N, |rectified", said), f"{name} does not state its shapes"
