"""environment.yml (conda, Binder, Windows) and pyproject.toml say the same thing, and constraints.txt satisfies both.

At the end: what `make check` refuses in the library, and a set-up by `make` that may be killed, in a folder with spaces.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # PyPI name -> conda-forge name where they differ
CONDA_ONLY = {"pip"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINS = [Requirement(line) for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]


def requirements(extra: str) -> list[Requirement]:
    """What an extra asks for, with the extras that it includes."""
    listed = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    included = [r for name in listed if name.name == PROJECT["name"] for e in sorted(name.extras) for r in requirements(e)]
    return included + [r for r in listed if r.name != PROJECT["name"]]


def from_pyproject() -> dict[str, SpecifierSet]:
    """conda name -> versions allowed, of the run-time dependencies and the extra `test`."""
    listed = [*map(Requirement, PROJECT["dependencies"]), *requirements("test")]
    specs = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in listed}
    return specs | {"python": SpecifierSet(PROJECT["requires-python"])}


def from_environment(text: str) -> dict[str, SpecifierSet]:
    """conda name -> versions allowed. A spec that does not parse raises."""
    specs = {}
    for line in (line for line in yaml.safe_load(text)["dependencies"] if isinstance(line, str)):
        match = re.fullmatch(r"([a-z0-9._-]+)(.*)", line)
        if not match:
            raise ValueError(f"not a conda spec: {line}")
        specs[match[1]] = SpecifierSet(match[2])
    return specs


def drift(text: str) -> list[str]:
    """Every difference between an environment.yml and pyproject.toml, in words."""
    conda, pypi = from_environment(text), from_pyproject()
    differ = [n for n in sorted((conda.keys() | pypi.keys()) - CONDA_ONLY) if conda.get(n) != pypi.get(n)]
    return [f"{n}: environment.yml {conda.get(n, 'has none')}, pyproject.toml {pypi.get(n, 'has none')}" for n in differ]


def test_environment_yml_and_pyproject_ask_for_the_same():
    assert drift(ENVIRONMENT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pytorch>=2.4", "pytorch>=2.5"),
        ("  - torchinfo>=1.8\n", ""),
        ("  - pip\n", "  - pip\n  - scipy\n"),
        ("python>=3.10", "python>=3.9"),
        ("numpy>=1.26", "numpy"),
    ],
)
def test_a_doctored_environment_yml_is_noticed(old, new):
    assert ENVIRONMENT.count(old) == 1
    assert len(drift(ENVIRONMENT.replace(old, new))) == 1


@pytest.mark.parametrize("spec", ["numpy=>1.26", "NumPy>=1.26", "numpy>=latest"])
def test_a_malformed_spec_is_noticed(spec):
    with pytest.raises(ValueError, match=r"Invalid specifier|not a conda spec"):
        drift(ENVIRONMENT.replace("numpy>=1.26", spec))


def test_environment_yml_installs_this_checkout_from_conda_forge_alone():
    environment = yaml.safe_load(ENVIRONMENT)
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"][-1] == {"pip": ["-e ."]}


def test_every_pin_is_exact_and_every_requirement_has_one_that_it_allows():
    assert all(re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)) for pin in PINS)
    for text in (t for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for t in group):
        requirement = Requirement(text)
        pins = [p for p in PINS if p.name.lower() == requirement.name.lower()]
        assert pins or requirement.name == PROJECT["name"], f"{requirement.name} has no pin"
        assert all(requirement.specifier.contains(str(p.specifier).removeprefix("==")) for p in pins), requirement


def refused(text: str, place: str) -> set[str]:
    """The codes that ruff gives, under this project's settings, for a file that said this at this place."""
    pytest.importorskip("ruff")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", f"--stdin-filename={place}", "-"]
    done = subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return set(re.findall(r": ([A-Z]+\d+) ", done.stdout))


DOCUMENTED = '"""A module."""\n\n'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("# TODO: more\n", "FIX002"),
        ("# FIXME\n", "FIX001"),
        ("# XXX\n", "FIX003"),
        ('print("hello")\n', "T201"),
        ('import torch\n\ntorch.load("file")\n', "TID251"),
        ('import pickle\n\npickle.loads(b"")\n', "S301"),
        ("import urllib.request\n\nurllib.request.urlopen\n", "TID251"),
        ("from torch.hub import load_state_dict_from_url\n\nload_state_dict_from_url\n", "TID251"),
        ("def work() -> None:\n    pass\n", "D103"),
        ("class Work:\n    pass\n", "D101"),
        ('class Work:\n    """Work."""\n\n    def done(self) -> None:\n        pass\n', "D102"),
    ],
)
def test_the_check_refuses_in_the_library_what_must_not_be_there(text, code):
    assert code in refused(DOCUMENTED + text, "minideeplab/cost/new.py")


@pytest.mark.parametrize("place", ["minideeplab/cost/new.py", "minideeplab/new/__init__.py"])
def test_the_check_refuses_a_module_that_does_not_say_what_it_is(place):
    assert refused("import os\n\nos.sep\n", place) & {"D100", "D104"}


@pytest.mark.parametrize(
    ("place", "spoken"),
    [("minideeplab/cli/new.py", True), ("minideeplab/course/lesson.py", True), ("minideeplab/course/plot.py", False),
     ("minideeplab/blocks/new.py", False), ("tools/new.py", True), ("tests/test_new.py", True)],
)  # fmt: skip
def test_only_what_is_asked_to_speak_may_print(place, spoken):
    assert ("T201" in refused(DOCUMENTED + 'print("hello")\n', place)) != spoken


@pytest.mark.skipif(not shutil.which("make"), reason="no make: on Windows, conda sets up")
def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^\.PHONY: (help .*)$", makefile, re.MULTILINE)
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == listed.split()
    assert (
        listed.split()
        == "help lab slides handout docs test check notebooks mutants browser package anywhere parity setup clean".split()
    )


FAKE_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
    "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp fake .venv/bin/python; [ "$DIES" != venv ] || kill -9 $PPID ;;
    *"pip --version") [ "$DIES" != "no pip" ] ;;
    *"pip install"*) case "$DIES" in pip) kill -9 $PPID ;; failing) exit 1 ;; esac ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    """A checkout in a folder whose name has spaces, and a Python that only writes down how it is called."""
    if not shutil.which("make"):
        pytest.skip("no make: on Windows, conda sets up")
    made = tmp_path / "a b" / "mini deep  lab"
    made.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, made)
    (made / "fake").write_text(FAKE_PYTHON, encoding="utf-8")
    (made / "fake").chmod(0o755)
    return made


def make(folder: Path, *targets: str, dies: str = "") -> tuple[int, list[str]]:
    """Exit status, and how Python was called: only what sets up."""
    (folder / "calls").unlink(missing_ok=True)
    command = ["make", "PYTHON=./fake", f"DIES={dies}", *targets]
    status = subprocess.run(command, cwd=folder, capture_output=True, env={"PATH": os.environ["PATH"], "DIES": dies}).returncode
    calls = (folder / "calls").read_text(encoding="utf-8").splitlines() if (folder / "calls").exists() else []
    return status, [call.split()[2] + call.split(".")[-1] for call in calls if " venv " in call or " install " in call]


VENV, TEST, LINT = "--clearvenv", "install[test]", "install[lint]"
STAMPS = (".venv/test.stamp", ".venv/lint.stamp")


def test_make_sets_up_once_in_a_folder_with_spaces(folder):
    assert make(folder, *STAMPS) == (0, [VENV, TEST, LINT])
    assert make(folder, *STAMPS) == (0, [])
    later = (folder / ".venv/lint.stamp").stat().st_mtime + 2  # clocks of files may tick once a second
    os.utime(folder / "constraints.txt", (later, later))
    assert make(folder, *STAMPS) == (0, [TEST, LINT])


@pytest.mark.parametrize("dies", ["venv", "no pip", "pip"])
def test_a_set_up_that_was_killed_begins_anew(folder, dies):
    assert make(folder, *STAMPS, dies=dies)[0] != 0
    assert make(folder, *STAMPS) == (0, [VENV, TEST, LINT])
    assert make(folder, *STAMPS) == (0, [])


def test_a_set_up_that_was_killed_later_begins_anew_as_well(folder):
    assert make(folder, STAMPS[0]) == (0, [VENV, TEST])
    assert make(folder, STAMPS[1], dies="pip")[0] != 0
    assert make(folder, *STAMPS) == (0, [VENV, TEST, LINT])


def test_what_pip_refuses_costs_no_new_environment(folder):
    assert make(folder, *STAMPS, dies="failing")[0] != 0
    assert make(folder, *STAMPS) == (0, [TEST, LINT])


def first_words(folder: Path, *options: str, python: str = "./fake") -> str:
    """What a person reads when pip is killed before it has done anything."""
    command = ["make", f"PYTHON={python}", "DIES=pip", ".venv/course.stamp", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "DIES": "pip"})
    assert done.returncode != 0
    return done.stdout


def test_the_set_up_says_what_it_takes_before_it_takes_anything(folder):
    said = first_words(folder)
    assert re.findall(r"into \.venv|GB of disk|minutes", said) == ["into .venv", "GB of disk", "minutes"]
    assert ("TORCH_INDEX=URL" in said) == (sys.platform == "linux")
    assert make(folder, STAMPS[0])[0] == 0
    assert "GB" not in first_words(folder)


def test_the_small_build_is_one_variable(folder):
    assert "TORCH_INDEX" not in first_words(folder, "TORCH_INDEX=some/where")
    calls = (folder / "calls").read_text(encoding="utf-8")
    (small,) = [call for call in calls.splitlines() if "install" in call]  # pip was killed here
    assert small.endswith("--no-deps --index-url some/where -c constraints.txt torch")
    status, found = make(folder, ".venv/course.stamp", "TORCH_INDEX=some/where")
    assert (status, found) == (0, [VENV, "installtxt torch", "install[course]"])
    assert make(folder, STAMPS[0])[1] == [TEST]


def test_an_index_without_a_torch_is_an_error_and_not_the_large_build(folder):
    command = ["make", "PYTHON=./fake", "TORCH_INDEX=mistyped", ".venv/course.stamp"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "DIES": "failing"}
    )
    assert done.returncode != 0
    assert "is the network there and a torch at TORCH_INDEX?" in done.stdout
    assert (folder / "calls").read_text(encoding="utf-8").count(" install ") == 1


def test_an_old_python_is_told_which_one_it_takes(folder):
    (folder / "old").write_text('#!/bin/sh\n[ "$1" != --version ] || echo Python 3.9.18\n[ "$1" != -c ]\n', encoding="utf-8")
    (folder / "old").chmod(0o755)
    assert first_words(folder, python="./old") == (
        "minideeplab needs Python 3.10 or newer; './old' is Python 3.9.18. Try: make .venv/course.stamp PYTHON=python3.12\n"
    )
    assert not (folder / ".venv").exists()
