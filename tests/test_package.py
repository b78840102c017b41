"""The gate of `make package` notices a file too few or too many and what an index would show wrongly; nothing is built here."""

import re
import shutil
import sys
from email import message_from_string
from pathlib import Path

import package
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SUBSTITUTIONS = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
LICENSES = {"LICENSE", "minideeplab/weights/deeplabv3_mobilenet_v2_voc.LICENSE.txt"}


def substituted(text: str) -> str:
    """The readme as the build writes it into the metadata."""
    for rule in SUBSTITUTIONS:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


HEAD = "License-Expression: MIT\nProject-URL: Paper, https://example.org/\n"


def complaints(shown: str, head: str = HEAD, licenses: set[str] = LICENSES) -> list[str]:
    listed = "".join(f"License-File: {name}\n" for name in sorted(LICENSES))
    return package.said_wrongly(message_from_string(f"{head}{listed}\n{shown}"), README, licenses)


def test_an_index_shows_the_readme_without_links_that_lead_nowhere():
    assert complaints(substituted(README)) == []


@pytest.mark.parametrize(
    ("shown", "head", "licenses"),
    [
        (substituted(README) + "[x](docs/x.md)", HEAD, LICENSES),
        (substituted(README) + "![x](docs/x.png)", HEAD, LICENSES),
        (substituted(README).replace("separable=False", ""), HEAD, LICENSES),
        (substituted(README), HEAD.partition("\n")[2], LICENSES),
        (substituted(README), HEAD.partition("\n")[0] + "\n", LICENSES),
        (substituted(README), HEAD + "Classifier: License :: OSI Approved :: MIT License\n", LICENSES),
        (substituted(README), HEAD, {"LICENSE"}),
    ],
)
def test_metadata_that_say_it_wrongly_are_noticed(shown, head, licenses):
    assert len(complaints(shown, head, licenses)) == 1


def test_a_link_becomes_its_words_and_a_picture_its_alt_text():
    assert substituted("see [`a.py`](b/a.py), [c](https://d), ![a bird](e.png)") == (
        "see `a.py`, [c](https://d), *(Picture: a bird)*"
    )


def test_a_file_too_few_or_too_many_is_noticed():
    assert package.differences("the wheel", {"a", "b"}, {"b", "c"}) == [
        "the wheel lacks c",
        "the wheel holds a, which is not meant to be there",
    ]


def test_the_wheel_is_meant_to_hold_the_library_with_its_types_and_weights_alone():
    meant = package.meant_for_the_wheel(ROOT)
    assert {name.split("/")[0] for name in meant} == {"minideeplab"}
    assert {Path(name).suffix for name in meant} == {".py", ".typed", ".safetensors", ".txt", ".md"}
    on_disk = {path for path in (ROOT / "minideeplab").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in on_disk} == meant


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_archive_is_meant_to_hold_what_a_reader_needs_to_repeat_everything():
    meant = package.meant_for_the_archive(ROOT)
    beside = "Makefile constraints.txt environment.yml CHANGELOG.md CONTRIBUTING.md CITATION.cff LICENSE tests/conftest.py"
    assert set(beside.split()) <= meant
    shown = {path for path in (ROOT / "notebooks").rglob("*.[ip][pn][yg]*") if ".ipynb_checkpoints" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in shown} <= meant  # what JupyterLab keeps of a reader's own is not
    assert {name.split("/")[0] for name in meant} >= {"notebooks", "tests", "tools", "docs", "minideeplab"}


def test_the_version_is_cited():
    assert f"\nversion: {PYPROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_pythons_that_are_promised_are_those_that_the_workflow_and_the_pins_name():
    named = [c.rpartition(" ")[2] for c in PYPROJECT["project"]["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert named == ["3.10", "3.11", "3.12", "3.13"]
    assert PYPROJECT["project"]["requires-python"] == f">={named[0]}"
    assert f"on Python {named[0]} to {named[-1]}" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert {f'"{name}"' for name in named} <= set(re.findall(r'"3\.\d+"', workflow))
