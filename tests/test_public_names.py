"""What is public is one list: CONTRIBUTING.md names the modules, `__all__` or the modules the names, and all else follows.

Every public name says what it is, what notebooks and pages import is public, and the reference shows these modules alone.
"""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_origin

import nbformat
import pytest
from torch import nn

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## What is public")[2].partition("\n\n**")[0]
MODULES = re.findall(r"`(minideeplab[\w.]*)`", SECTION)


def defines(module: ModuleType) -> list[str]:
    """What stands without an underscore in a module's own source: functions, classes, and constants behind a `#:`."""
    source, found = inspect.getsource(module), []
    lines = ["", *source.splitlines()]
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif lines[node.lineno - 1].startswith("#: ") or "  #: " in lines[node.lineno]:
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                found += [part.id for part in ast.walk(target) if isinstance(part, ast.Name)] if target else []
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def public(module: ModuleType) -> list[str]:
    return getattr(module, "__all__", None) or defines(module)


def silent(subject: object) -> bool:
    """Without a docstring of its own; a constant has its comment, and what is torch's is theirs to explain."""
    if get_origin(subject) or not (inspect.isclass(subject) or inspect.isfunction(subject)):  # 3.10 takes list[int] for a class
        return False
    if subject.__module__.startswith("torch."):
        return False
    inherited = nn.Module.__doc__ if inspect.isclass(subject) and issubclass(subject, nn.Module) else None
    generated = inspect.isclass(subject) and (subject.__doc__ or "").startswith(
        f"{subject.__name__}("
    )  # of tuples, dataclasses
    return not subject.__doc__ or subject.__doc__ == inherited or generated


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_of_a_module_exists_and_says_what_it_is(name):
    module = import_module(name)
    assert module.__doc__
    assert public(module)
    assert [n for n in public(module) if n.startswith("_") or silent(getattr(module, n))] == []
    assert len(set(public(module))) == len(public(module))


def test_the_list_is_read():
    assert len(MODULES) == len(set(MODULES)) > 15
    assert MODULES[:2] == ["minideeplab", "minideeplab.cost"]
    assert [name for name in MODULES if name.endswith((".checks", ".cli", ".meta"))] == []


def test_a_constant_is_public_if_a_comment_says_what_it_is():
    from minideeplab.cost import published
    from minideeplab.learn import data

    assert {"SCALES", "DEEPLABV3PLUS_TABLE_5", "MISPRINT", "ImageNet"} <= set(public(published))
    assert not {"no", "yes"} & set(public(published))
    assert "VOID" in public(data)
    assert "MOST_READ" not in public(data)


def test_a_silent_name_is_noticed():
    class Quiet(nn.Module):
        pass

    assert silent(Quiet)
    assert silent(lambda: None)
    assert not silent(nn.Conv2d)
    assert not silent(3)


def imported(code: str) -> set[tuple[str, str]]:
    """Every (module, name) that code takes from minideeplab; ("minideeplab.a", "b") is the module a.b if there is one."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    pairs = {(n.module or "", a.name) for n in nodes for a in n.names if (n.module or "").split(".")[0] == "minideeplab"}
    return pairs | {
        (alias.name, "")
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] == "minideeplab"
    }


def private(code: str) -> list[str]:
    """What code imports and has no right to rely on."""
    wrong = []
    for module, name in sorted(imported(code)):
        known = module in MODULES and (not name or name in public(import_module(module)))
        if not known and f"{module}.{name}" not in MODULES:
            wrong.append(f"{module}.{name}".rstrip("."))
    return wrong


def shown() -> list[tuple[str, str]]:
    """(place, code) of every notebook's code and every python block of a page."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        found.append((path.name, "\n".join(cells)))
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]):
        blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        found += [(path.name, block) for block in blocks]
    return found


@pytest.mark.parametrize(("place", "code"), [pytest.param(*pair, id=pair[0]) for pair in shown()])
def test_what_a_reader_is_shown_imports_public_names_only(place, code):
    assert private(code) == []


def test_an_import_of_what_is_not_public_is_noticed():
    code = (
        "from minideeplab.cost.trace import Row\nfrom minideeplab import SCALES, ASPP\nimport minideeplab.cli\nimport torch\n"
    )
    assert private(code) == ["minideeplab.SCALES", "minideeplab.cli", "minideeplab.cost.trace.Row"]


def documented(text: str) -> set[str]:
    """The modules whose members a page of the reference lists."""
    return set(re.findall(r"(?:automodule::|\{automodule\})\s+(minideeplab[\w.]*)", text))


def not_documented(listed: set[str]) -> list[str]:
    """The public functions and classes whose module is not among those listed."""
    names = {(name, n): getattr(import_module(name), n) for name in MODULES for n in public(import_module(name))}
    ours = {where: str(getattr(subject, "__module__", "")) for where, subject in names.items()}
    return [".".join(where) for where, home in ours.items() if home.startswith("minideeplab") and home not in listed]


def test_the_reference_lists_every_public_name():
    pages = pytest.importorskip("site_pages", reason="the site's pages are made by tools/site_pages.py").reference_pages()
    assert not_documented(documented("\n".join(pages.values()))) == []


def test_a_name_that_the_reference_lacks_is_noticed():
    page = "```{automodule} minideeplab.cost.report\n```\n.. automodule:: minideeplab.cost.trace\n"
    assert documented(page) == {"minideeplab.cost.report", "minideeplab.cost.trace"}
    lacking = not_documented(documented(page))
    assert {"minideeplab.ASPP", "minideeplab.cost.tf_multiply_adds", "minideeplab.image.from_pixels"} <= set(lacking)
    assert "minideeplab.cost.profile" not in lacking
