"""The package: wheel and source archive are built and opened, and the wheel alone is used in an empty environment.

`make package`. The wheel holds the library, its types and the shipped weights, nothing else; the archive is the repository;
what an index shows has no link that leads nowhere. Then the wheel is installed, without this checkout, as a user would, and
the command line, the crow and mypy have their say there. At the end `py.typed` is taken away: mypy has to notice.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "package"
SHIPPED = [f"weights/deeplabv3_mobilenet_v2_voc.{kind}" for kind in ("safetensors", "LICENSE.txt", "md")]
OPTIONAL = ["matplotlib", "PIL", "h5py", "IPython", "ipywidgets"]
NETWORK, PARAMS = "deeplabv3plus-xception65", 41_055_413
RELATIVE = r"\]\((?!https?:|#)[^)]*\)"  # a link or a picture of markdown that leads into the repository
PROGRAM = """from minideeplab import DeepLabV3Plus, xception65
from minideeplab.cost import profile

params: int = profile(DeepLabV3Plus(xception65(), num_classes=21), (1, 3, 513, 513)).params
"""


def meant_for_the_wheel(root: Path) -> set[str]:
    """The modules, the sign that they are typed, and the shipped weights with their licence and their page."""
    modules = {path.relative_to(root).as_posix() for path in (root / "minideeplab").rglob("*.py")}
    return modules | {f"minideeplab/{name}" for name in ["py.typed", *SHIPPED]}


def meant_for_the_archive(root: Path) -> set[str]:
    """What git keeps."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return set(listed.split("\0")) - {""}


def differences(place: str, found: set[str], meant: set[str]) -> list[str]:
    """A complaint for every file too few or too many."""
    return [f"{place} lacks {name}" for name in sorted(meant - found)] + [
        f"{place} holds {name}, which is not meant to be there" for name in sorted(found - meant)
    ]


def said_wrongly(metadata: Message, readme: str, licenses: set[str]) -> list[str]:
    """Complaints about what an index would show."""
    shown, found = str(metadata.get_payload()), []
    found += [f"a link of the readme leads nowhere on an index: {link}" for link in re.findall(RELATIVE, shown)]
    blocks = [re.findall(r"```.*?```", text, re.DOTALL) for text in (shown, readme)]
    found += ["a block of the readme is not what README.md has"] * (blocks[0] != blocks[1] or not blocks[0])
    classified = [c for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    found += [f"the license is an SPDX expression, and {c} says it twice" for c in classified]
    found += ["there is no SPDX license expression"] * ("License-Expression" not in metadata)
    found += ["there is no URL"] * ("Project-URL" not in metadata)
    return found + differences("the list of license files", set(metadata.get_all("License-File", [])), licenses)


def look_into(wheel: Path, archive: Path) -> list[str]:
    """Contents, metadata and sizes of the two files; complaints."""
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if not name.endswith("/")}
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = message_from_string(opened.read(f"{info}/METADATA").decode("utf-8"))
    with tarfile.open(archive) as packed:
        kept = {member.name.partition("/")[2] for member in packed.getmembers() if member.isfile()} - {"PKG-INFO"}
    library = {name for name in names if not name.startswith(info)}
    licenses = {name.removeprefix(f"{info}/licenses/") for name in names if name.startswith(f"{info}/licenses/")}
    for path, count in ((wheel, len(names)), (archive, len(kept) + 1)):
        print(f"{path.name}: {count} files, {path.stat().st_size:,} bytes")
    return [
        *differences("the wheel", library, meant_for_the_wheel(ROOT)),
        *differences("the archive", kept, meant_for_the_archive(ROOT)),
        *differences("dist-info/licenses", licenses, {"LICENSE", f"minideeplab/{SHIPPED[1]}"}),
        *said_wrongly(metadata, (ROOT / "README.md").read_text(encoding="utf-8"), licenses),
    ]


def run(*command: str | Path, folder: Path = ROOT, status: int = 0) -> str:
    """What a command prints; SystemExit with its last words if it ends otherwise than expected."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # for the environment that `build` makes; relative, since pip splits this variable at spaces
    clean |= {"PIP_CONSTRAINT": "constraints.txt"} if folder == ROOT else {}
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), cwd=folder, env=clean, capture_output=True, text=True)
    if done.returncode != status:
        words = " ".join(map(str, command))
        sys.exit(f"make package: status {done.returncode} of {words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    print(f"  {time.perf_counter() - start:5.1f} s  {' '.join(Path(word).name for word in command if word)[:100]}", flush=True)
    return done.stdout


def use(wheel: Path, folder: Path) -> list[str]:
    """Install the wheel into an empty environment in this folder, which holds nothing of ours, and use it there; complaints."""
    run(sys.executable, "-m", "venv", "venv", folder=folder)
    python, command = folder / "venv/bin/python", folder / "venv/bin/minideeplab"
    quiet = ["install", "--disable-pip-version-check", "-q"]
    run(python, "-m", "pip", *quiet, "-c", ROOT / "constraints.txt", f"{wheel}[data]", folder=folder)
    run(python, "-m", "pip", "check", folder=folder)
    found = []

    asked = f"import json, sys, minideeplab as m; print(json.dumps([m.__file__, sorted(set({OPTIONAL}) & set(sys.modules))]))"
    home, imported = json.loads(run(python, "-c", asked, folder=folder))
    found += [f"{home} was imported, which is not the wheel's"] * (not Path(home).is_relative_to(folder))
    found += [f"import minideeplab imports {name}" for name in imported]

    found += ["--help does not name segment"] * ("segment" not in run(command, "--help", folder=folder))
    params = json.loads(run(command, "cost", NETWORK, "--size", "513", "--json", folder=folder))["params"]
    found += [f"{NETWORK} has {params:,} parameters, not {PARAMS:,}"] * (params != PARAMS)
    shutil.copy(ROOT / "notebooks/assets/crow.png", folder)
    shares = json.loads(run(command, "segment", "crow.png", "--json", folder=folder))["shares"]
    found += [f"no bird was found on the crow: {shares}"] * (not 0.1 < shares.get("bird", 0) < 0.4)

    program = folder / "program.py"
    options = ["--strict", "--config-file=", "--cache-dir=cache", "--python-executable", python, program]
    program.write_text(PROGRAM, encoding="utf-8")
    run(sys.executable, "-m", "mypy", *options, folder=folder)
    program.write_text(PROGRAM.replace("=21", "='21'"), encoding="utf-8")
    said = run(sys.executable, "-m", "mypy", *options, folder=folder, status=1)
    found += [f"mypy does not see the types:\n{said}"] * ("[arg-type]" not in said)
    (Path(home).parent / "py.typed").unlink()
    said = run(sys.executable, "-m", "mypy", *options, folder=folder, status=1)
    found += [f"mypy does not miss py.typed, so the check shows nothing:\n{said}"] * ("[import-untyped]" not in said)
    return found


def main() -> int:
    """Build, look, use; 1 if something is not as meant."""
    start = time.perf_counter()
    shutil.rmtree(BUILT, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", BUILT, ".")
    (wheel,), (archive,) = BUILT.glob("*.whl"), BUILT.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, archive)
    found = look_into(wheel, archive)
    with tempfile.TemporaryDirectory(prefix="minideeplab-package-") as folder:
        found += use(wheel, Path(folder).resolve())
    print("\n".join([*found, f"make package: {len(found)} complaints, {time.perf_counter() - start:.0f} s"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
