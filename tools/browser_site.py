"""The site of `make docs` in headless Chromium, every page of it: `make browser` runs it too.

Every page is opened in light colors at desktop width and in dark ones at phone width: no console error, no request to another
host (they are refused), every picture there, nothing wider than a phone but what scrolls inside itself, and no complaint of
axe-core (contrast, names, order, keyboard access). The keyboard alone must reach the text, a folded answer, the colors and the
search, which must find "output stride", in a wide window and in one enlarged to 200 %. The decks are opened, and measured by
tools/browser_slides.py. First a few pages are broken on purpose: a gate that does not notice is no gate. Screenshots go to
build/browser/site-*.png.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from browser import CHROMIUM, FLAGS, ROOT, SHOTS
from build_site import BUILT, build
from playwright.sync_api import BrowserContext, Page, Route, sync_playwright
from slides import server

Look = tuple[str, dict[str, int]]  # colors, size of the window
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
HALF = {"width": 640, "height": 450}  # the desktop, enlarged to 200 %
LOOKS = (("light", DESKTOP), ("dark", PHONE))
ALL_LOOKS = (*LOOKS, ("dark", DESKTOP), ("light", PHONE))  # of pages of which a screenshot is kept
PICTURED = (
    "index",
    "notebooks/05_xception",
    "notebooks/course",
    "api/networks",
    "docs/claims",
    "lecture",
    "explorer",
    "search",
)
OTHERS = ("slides/", "handout/")  # pages that Sphinx does not make: opened, and looked at by their own tools
SOURCES = "_modules/"  # one template, one highlighter: axe-core reads the longest three only
WIDER = """() => {
    const page = document.documentElement, room = page.clientWidth;
    if (page.scrollWidth <= room + 1) return [];
    const wide = [...document.body.querySelectorAll('*')].filter(node => node.getBoundingClientRect().right > room + 1);
    const name = node => `${node.tagName}.${node.className} ${JSON.stringify(node.textContent.trim().slice(0, 40))}`;
    return [`${page.scrollWidth} pixels wide on ${room}: ` + wide.slice(-2).map(name).join(', ')];
}"""
UNSEEN = """() => {
    const box = document.activeElement.getBoundingClientRect();
    return box.right <= 0 || box.left >= document.documentElement.clientWidth;
}"""
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth && i.loading !== 'lazy').map(i => i.src.slice(0, 80))"


class Visitor:
    """A page that may ask this machine only, and what went wrong since it was last asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.page, self.wrong = context.new_page(), list[str]()
        context.route("**/*", self.asked)
        self.page.on("console", lambda m: self.wrong.append(f"the browser logged: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.wrong.append(f"the browser logged: {e}"))

    def asked(self, route: Route) -> None:
        """Refuse, and write down, what is asked of another host."""
        host = urlsplit(route.request.url).hostname
        if host == "127.0.0.1" or route.request.url.startswith(("data:", "blob:")):
            return route.continue_()
        self.wrong.append(f"a request went to {host}")
        return route.abort()

    def visit(self, url: str, looks: tuple[Look, ...] = LOOKS, audit: bool = True, shots: str = "") -> list[str]:
        """Open one page in some looks; what is wrong with it."""
        self.wrong, found = [], list[str]()
        for number, (scheme, size) in enumerate(looks):
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            if not number:
                self.page.goto(url, wait_until="load")
            wrong = self.page.evaluate(WIDER) + (axe(self.page) if audit else [])
            found += [f"{text} ({scheme}, {size['width']} pixels)" for text in wrong]
            if shots:
                self.page.screenshot(path=str(SHOTS / f"site-{shots}-{scheme}-{size['width']}.png"))
        found += [f"a picture could not be shown: {source}" for source in self.page.evaluate(BROKEN)]
        return found + list(dict.fromkeys(self.wrong))


def axe(page: Page) -> list[str]:
    """What axe-core says: the rule, how often, and the first place."""
    violations = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [f"axe: {v['id']}, {len(v['nodes'])} places, {v['nodes'][0]['html'][:90]!r}" for v in violations]


def keyboard(page: Page, home: str) -> list[str]:
    """Without a mouse: to the text, to a cell's code, to a folded answer, to the other colors, to what a search finds."""
    found = []
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
    page.goto(f"{home}/notebooks/05_xception.html")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent.trim()")
    if first != "Skip to content":
        found.append(f"the first Tab reaches {first!r}, not the way past the menu")
    code, printed = (page.locator(f".cell_{part} button.copybtn") for part in ("input", "output"))
    code.first.focus()
    page.keyboard.press("Enter")
    if printed.count() or not page.locator("button.copybtn.success").count():
        found.append(f"Enter does not copy a cell's code, and {printed.count()} outputs can be copied, none should")
    page.locator("summary", has_text="Answer").first.focus()
    page.keyboard.press("Enter")
    if not page.locator("details[open]").count():
        found.append("Enter does not open a folded answer")
    before = page.evaluate("document.body.dataset.theme")
    page.locator(".theme-toggle:visible").first.focus()
    page.keyboard.press("Enter")
    if page.evaluate("document.body.dataset.theme") == before:
        found.append("Enter does not change the colors")
    page.locator("input.sidebar-search").focus()
    page.keyboard.type("output stride")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    page.wait_for_timeout(1000)
    hits = page.evaluate("[...document.querySelectorAll('#search-results ul.search li > a')].map(a => a.getAttribute('href'))")
    if not any("06_atrous" in hit for hit in hits):
        found.append(f'a search for "output stride" finds {hits[:5]}')
    page.evaluate("localStorage.clear()")
    page.set_viewport_size(HALF)  # type: ignore[arg-type]
    page.goto(f"{home}/notebooks/05_xception.html")
    for stop in range(1, 9):
        page.keyboard.press("Tab")
        if page.evaluate(UNSEEN):
            found.append(f"on {HALF['width']} pixels Tab number {stop} stops at something outside the window")
    page.locator(".nav-overlay-icon button:visible").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    page.locator("input.sidebar-search").focus()
    if page.evaluate("document.activeElement.className") != "sidebar-search" or page.evaluate(UNSEEN):
        found.append(f"on {HALF['width']} pixels Enter does not open the menu with the search")
    return [f"by keyboard: {text}" for text in found]


def broken() -> dict[str, tuple[str, str]]:
    """What the gate is for: (HTML of a page, the complaint that it must cause)."""
    return {
        "script": ("<script>throw new Error('on purpose')</script>", "on purpose"),
        "logged": ("<script>console.error('said on purpose')</script>", "said on purpose"),
        "remote": ("<img alt='x' src='http://nobody.invalid/x.png'>", "a request went to nobody.invalid"),
        "font": ("<style>@import 'http://fonts.invalid/f.css';</style>", "a request went to fonts.invalid"),
        "wide": ("<pre>" + "x" * 300 + "</pre>", "pixels wide on 390"),
        "pale": ("<p style='color:#bbb'>hardly to be read</p>", "axe: color-contrast"),
        "mute": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "axe: image-alt"),
        "locked": ("<pre style='overflow:auto;width:90px'>" + "x" * 90 + "</pre>", "axe: scrollable-region-focusable"),
        "lost": ("<img alt='x' src='nothing.png'>", "a picture could not be shown"),
    }


def self_test(visitor: Visitor, folder: Path) -> list[str]:
    """Whatever the gate fails to notice, and whatever it complains of on a good page."""
    missed = []
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for name, (text, complaint) in ({"good": ("", "")} | broken()).items():
            head = "<!DOCTYPE html><html lang='en'><head><title>A page</title><link rel='icon' href='data:,'>"
            head += "<meta name='viewport' content='width=device-width'></head>"
            page = f"{head}<body><main><h1>A page</h1><p>A claim.</p>{text}</main></body></html>"
            (folder / f"{name}.html").write_text(page, encoding="utf-8")
            found = visitor.visit(f"http://127.0.0.1:{running.server_port}/{name}.html")
            if not any(complaint in each for each in found) if complaint else found:
                missed.append(f"the gate, shown a page that is {name}, says {found}")
        running.shutdown()
    return missed


def main() -> int:
    """Build the site and visit it; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", action="store_true", help="take the site as `make docs` left it")
    parser.add_argument("names", nargs="*", default=[""], help="the beginnings of pages, such as api/ (default: all)")
    options = parser.parse_args()
    if not Path(CHROMIUM).exists():
        sys.exit(f"no Chromium at {CHROMIUM}: apt-get install chromium, or say where it is: CHROMIUM=/path/to/it make browser")
    found = [] if options.built else build()
    start = time.perf_counter()
    SHOTS.mkdir(parents=True, exist_ok=True)
    pages = [path.relative_to(BUILT).as_posix() for path in sorted(BUILT.rglob("*.html"))]
    pages = [page for page in pages if page.startswith(tuple(options.names))]
    sources = sorted((page for page in pages if page.startswith(SOURCES)), key=lambda page: (BUILT / page).stat().st_size)
    audited = [page for page in pages if not page.startswith(OTHERS) and page not in sources[:-3]]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="minideeplab-") as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        visitor = Visitor(browser.new_context())
        found += self_test(visitor, Path(folder))
        with server(BUILT) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            home = f"http://127.0.0.1:{running.server_port}"
            for page in pages:
                name = page.removesuffix(".html")
                looks = ALL_LOOKS if name in PICTURED else LOOKS[:1] if page.startswith(OTHERS) else LOOKS
                query = "?q=output+stride" if name == "search" else ""
                shots = name.replace("/", "-") if name in PICTURED else ""
                wrong = visitor.visit(f"{home}/{page}{query}", looks, page in audited, shots)
                found += [f"{page}: {text}" for text in wrong]
            found += keyboard(visitor.page, home)
            running.shutdown()
        browser.close()
    noticed = f"{len(broken())} broken pages noticed"
    if any("the gate" in text for text in found):
        noticed = "the self-test FAILED"
    what = f"{len(pages)} pages opened, {len(audited)} read by axe-core"
    print(f"{BUILT.relative_to(ROOT)}: {what}, {len(found)} complaints; {noticed}; {time.perf_counter() - start:.0f} s")
    print("\n".join(found[:40]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
