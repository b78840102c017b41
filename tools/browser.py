"""Read a notebook where its learner reads it: JupyterLab in headless Chromium, `make browser`.

    python tools/browser.py 01              open, run every cell, check, keep one long picture
    python tools/browser.py 04 --shots      the same, and page-wise pictures to read the notebook by

Checked: every code cell ran, none failed, outputs are the committed ones, the browser sent no request to another host and
logged no error, every picture can be shown and has its alt text (JupyterLab 4 keeps an output's alt text in the file and does
not show it). The notebooks are copied first, since JupyterLab saves what it opens. Pictures go to build/browser/. Chromium is
/usr/bin/chromium, or $CHROMIUM; nothing is downloaded.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright
from regenerate import NOTEBOOKS, find, merged

import nbformat  # isort: skip

ROOT = NOTEBOOKS.parent
SHOTS = ROOT / "build" / "browser"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split()
FLAGS += "--disable-background-networking --disable-component-update".split()
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},  # all cells are in the page
}
HARMLESS = ()  # console errors that say nothing about the course: (a piece of the text, ...), each with its reason

LAB = "window.jupyterapp.shell.currentWidget"
READY = f"""name => window.jupyterapp && {LAB}?.context?.isReady && {LAB}.context.path.endsWith(name)
  && {LAB}.sessionContext?.session?.kernel?.status === 'idle'"""  # by name: JupyterLab may restore the notebook before it first
RUN = """async () => {
    const commands = window.jupyterapp.commands;
    await commands.execute('notebook:clear-all-cell-outputs');
    commands.execute('notebook:run-all-cells').then(() => { window.ranAll = true; });
}"""
TALL = "() => Math.max(...[...document.querySelectorAll('.jp-Notebook .jp-WindowedPanel-outer')].map(e => e.scrollHeight))"
BROKEN = "[...document.querySelectorAll('.jp-Notebook img')].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80))"
SCROLL = "y => document.querySelectorAll('.jp-Notebook .jp-WindowedPanel-outer').forEach(e => { e.scrollTop = y; })"


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def serve(home: Path, port: int, token: str) -> "subprocess.Popen[bytes]":
    """JupyterLab on a copy of the notebooks, with settings of its own; returns when it answers."""
    for part in ("notebooks", "minideeplab", "docs/results"):
        shutil.copytree(ROOT / part, home / "course" / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    places = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_CONFIG_DIR": "config"}
    places |= {"JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    command = [sys.executable, *"-m jupyterlab --no-browser --expose-app-in-browser --ip=127.0.0.1".split()]
    command += [f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'course'}"]
    command += ["--allow-root"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    with open(home / "server.log", "wb") as log:
        environment = os.environ | {k: str(home / v) for k, v in places.items()}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5).close()
            return server
        except (urllib.error.URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.2)
    server.terminate()
    sys.exit(f"JupyterLab did not start:\n{(home / 'server.log').read_text(encoding='utf-8')}")


def texts(cell: Any) -> list[str]:
    """What a cell printed, in order: streams and the plain form of everything shown."""
    return [
        o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", o.get("ename", ""))
        for o in merged(cell.outputs)
    ]


def complaints(ran: Any, committed: Any) -> list[str]:
    """What went wrong in the notebook itself."""
    found = []
    for number, (cell, wanted) in enumerate(zip(ran.cells, committed.cells, strict=True), 1):
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.get("tags", [])
        if cell.execution_count is None:
            found.append(f"cell {number} did not run")
        if "raises-exception" not in tags and any(o.output_type == "error" for o in cell.outputs):
            found.append(f"cell {number} failed: {next(o.evalue for o in cell.outputs if o.output_type == 'error')}")
        elif "nbval-ignore-output" not in tags and texts(cell) != texts(wanted):
            found.append(f"cell {number} printed {texts(cell)}, the committed output is {texts(wanted)}")
    return found


def pictures(page: Page, stem: str, pages: bool) -> list[Path]:
    """The whole notebook as one long picture and, if asked, as pages with a little overlap."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for old in SHOTS.glob(f"{stem}*.png"):
        old.unlink()
    panel = page.locator(".jp-NotebookPanel:visible .jp-Notebook").first
    made = []
    if pages:
        step = int(panel.bounding_box()["height"]) - 40  # type: ignore[index]
        for number, y in enumerate(range(0, int(page.evaluate(TALL)), step), 1):
            page.evaluate(SCROLL, y)
            page.wait_for_timeout(150)
            made.append(SHOTS / f"{stem}-{number:02d}.png")
            panel.screenshot(path=str(made[-1]))
    page.set_viewport_size({"width": 1280, "height": min(int(page.evaluate(TALL)) + 200, 16000)})  # Chromium's limit is 16384
    page.evaluate(SCROLL, 0)
    page.wait_for_timeout(500)
    made.append(SHOTS / f"{stem}.png")
    panel.screenshot(path=str(made[-1]))
    return made


def visit(path: Path, home: Path, port: int, token: str, timeout: float, shots: bool) -> list[str]:
    """Open one notebook, run it, and return everything that is wrong with it."""
    hosts, logged = set(), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda r: hosts.add(urlsplit(r.url).hostname) if not r.url.startswith(("data:", "blob:")) else None)
        page.on("websocket", lambda w: hosts.add(urlsplit(w.url).hostname))
        page.on("console", lambda m: logged.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: logged.append(str(e)))
        page.goto(f"http://127.0.0.1:{port}/lab/tree/notebooks/{path.name}?token={token}")
        page.wait_for_function(READY, arg=path.name, timeout=120_000)
        page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
        start = time.perf_counter()
        page.evaluate(RUN)
        page.wait_for_function("() => window.ranAll", timeout=timeout * 1000)
        seconds = time.perf_counter() - start
        page.wait_for_timeout(1000)  # let the last outputs be drawn
        ran = nbformat.from_dict(page.evaluate(f"{LAB}.content.model.toJSON()"))
        for cell in ran.cells:  # as nbformat.read would: pieces of text joined
            for output in cell.get("outputs", []):
                if isinstance(output.get("text"), list):
                    output.text = "".join(output.text)
                output.get("data", {}).update({k: "".join(v) for k, v in output.get("data", {}).items() if isinstance(v, list)})
        alts = page.evaluate("[...document.querySelectorAll('.jp-Notebook .jp-MarkdownCell img')].map(i => i.alt)")
        drawn = [o for c in ran.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
        alts += [o.metadata.get("image/png", {}).get("alt", "") for o in drawn]
        broken = page.evaluate(BROKEN)
        made = pictures(page, path.stem, shots)
        browser.close()
    found = complaints(ran, nbformat.read(path, as_version=4))
    found += [f"a request went to {host}" for host in sorted(map(str, hosts)) if host != "127.0.0.1"]
    found += [f"the browser logged: {text}" for text in logged if not any(piece in text for piece in HARMLESS)]
    found += [f"picture {i} has no alt text" for i, alt in enumerate(alts, 1) if alt in ("", "Image")]
    found += [f"a picture could not be shown: {src}" for src in broken]
    code = sum(c.cell_type == "code" for c in ran.cells)
    counted = f"{code} code cells ran in {seconds:.1f} s, {len(alts)} pictures, {len(found)} complaints"
    print(f"{path.name}: {counted}; see {made[-1].relative_to(ROOT)}")
    return found


def main() -> int:
    """Visit the notebooks named on the command line; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["01"], help="the beginnings of file names, such as 04 (default: 01)")
    parser.add_argument("--shots", action="store_true", help="page-wise pictures too")
    parser.add_argument("--timeout", type=float, default=180, help="seconds a notebook may take")
    options = parser.parse_args()
    if not Path(CHROMIUM).exists():
        sys.exit(f"no Chromium at {CHROMIUM}: apt-get install chromium, or say where it is: CHROMIUM=/path/to/it make browser")
    found, port, token = [], free_port(), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="minideeplab-") as folder:
        server = serve(Path(folder), port, token)
        try:
            for path in find(options.names):
                wrong = visit(path, Path(folder), port, token, options.timeout, options.shots)
                found += [f"{path.name}: {text}" for text in wrong]
        finally:
            server.terminate()
            server.wait(30)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
