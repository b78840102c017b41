"""The decks of `make slides` in headless Chromium, every slide at 1280 x 720: `make browser` runs it too.

Nothing may lie outside its slide, no text be smaller than 14 pixels, every picture must be there and large, with its alt text,
the browser log no error and ask no other host for anything. Folded answers are opened before it is looked. First a deck is
made that breaks each of these rules: a gate that does not notice is no gate. `--shots 04` keeps pictures of a deck's slides.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from browser import CHROMIUM, FLAGS, ROOT, SHOTS
from playwright.sync_api import Page, Request, sync_playwright
from slides import BUILT, ROUTES, Slide, build, copy_reveal, deck, server

SEEN = """([least, smallest]) => {
    const slide = Reveal.getCurrentSlide(), page = slide.querySelector('.page'), found = [];
    page.querySelectorAll('details').forEach(fold => { fold.open = true; });
    page.querySelectorAll('.fragment').forEach(part => part.classList.add('visible'));
    const name = node => node.tagName.toLowerCase() + ' ' + JSON.stringify(node.textContent.trim().slice(0, 30));
    if (page.scrollHeight > page.clientHeight + 1 || page.scrollWidth > page.clientWidth + 1)
        found.push(`overflows: ${page.scrollWidth} x ${page.scrollHeight} in ${page.clientWidth} x ${page.clientHeight}`);
    let last = null;
    for (const node of page.querySelectorAll('*')) {
        const box = node.getBoundingClientRect();
        if (!box.width || !box.height) continue;
        if (box.left < 20 || box.top < 10 || box.right > innerWidth - 20 || box.bottom > innerHeight - 20)
            last = `outside: ${name(node)} at ${[box.left, box.top, box.right, box.bottom].map(Math.round)}`;
        if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth && getComputedStyle(node).overflowX !== 'visible')
            found.push(`cut off: ${name(node)}`);
        const words = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
        const style = getComputedStyle(node);
        if (words && parseFloat(style.fontSize) < least - 0.01) found.push(`${style.fontSize}: ${name(node)}`);
        if (words && (style.visibility !== 'visible' || style.opacity === '0')) found.push(`cannot be seen: ${name(node)}`);
    }
    if (last) found.push(last);
    for (const image of page.querySelectorAll('img')) {
        const scale = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
        const side = Math.round(scale * Math.max(image.naturalWidth, image.naturalHeight));
        if (!image.naturalWidth) found.push(`a picture is not there: ${image.src.slice(0, 60)}`);
        else if (side <= smallest) found.push(`a picture of ${side} pixels`);
        if (!image.alt) found.push('a picture without alt text');
    }
    const sizes = [...page.querySelectorAll('*')].filter(e => e.children.length === 0 && e.textContent.trim());
    return {found: found, id: slide.id, pictures: page.querySelectorAll('img').length,
            least: Math.min(...sizes.map(e => parseFloat(getComputedStyle(e).fontSize)))};
}"""
STEPS = "Reveal.getSlides().map(slide => { const at = Reveal.getIndices(slide); return [at.h, at.v]; })"
NO_PICTURE = "data:image/png;base64,AAAA"


class Watch:
    """A page, and what it asked for and complained of since it was last asked."""

    def __init__(self, page: Page) -> None:
        self.page, self.wrong = page, list[str]()
        page.on("request", self.asked)
        page.on("console", lambda m: self.wrong.append(f"the browser logged: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda e: self.wrong.append(f"the browser logged: {e}"))

    def asked(self, request: Request) -> None:
        host = urlsplit(request.url).hostname
        if not request.url.startswith(("data:", "blob:")) and host != "127.0.0.1":
            self.wrong.append(f"a request went to {host}")

    def visit(self, url: str, shots: Callable[[int], Path] | None = None) -> tuple[list[str], int, int, float]:
        """Every slide of a deck: (complaints, slides, pictures, size of the smallest text)."""
        self.wrong.clear()
        self.page.goto(url)
        self.page.wait_for_function("() => window.Reveal && Reveal.isReady()", timeout=20_000)
        self.page.wait_for_function("() => [...document.images].every(image => image.complete)", timeout=20_000)
        found, pictures, least = [], 0, 99.0
        places = self.page.evaluate(STEPS)
        for number, (h, v) in enumerate(places, 1):
            self.page.evaluate("([h, v]) => Reveal.slide(h, v)", [h, v])
            if shots:
                self.page.evaluate(
                    "Reveal.getCurrentSlide().querySelectorAll('.fragment').forEach(f => f.classList.add('visible'))"
                )
                self.page.screenshot(path=str(shots(number)))
            seen = self.page.evaluate(SEEN, [14, 150])
            found += [f"slide {number} ({seen['id']}) {text}" for text in seen["found"]]
            pictures += seen["pictures"]
            least = min(least, seen["least"] or least)
        return found + self.wrong, len(places), pictures, least

    def keys(self) -> list[str]:
        """The right arrow alone reaches the end, every part of every slide shown on the way, the folded answers opened."""
        self.page.evaluate("() => { document.querySelectorAll('.visible').forEach(part => part.classList.remove('visible')); }")
        self.page.evaluate(
            "() => { document.querySelectorAll('details').forEach(fold => { fold.open = false; }); Reveal.slide(0, 0); }"
        )
        for _ in range(1000):
            if self.page.evaluate("Reveal.isLastSlide() && !Reveal.availableFragments().next"):
                break
            self.page.keyboard.press("ArrowRight")
        hidden = self.page.evaluate("document.querySelectorAll('.fragment:not(.visible), details:not([open])').length")
        last = self.page.evaluate("Reveal.isLastSlide()")
        return [f"by arrow keys: last slide {last}, {hidden} parts not shown"] if hidden or not last else []


def broken() -> dict[str, tuple[str, str]]:
    """What the gate is for: (a slide's HTML, the complaint that it must cause)."""
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    return {
        "full": ("<div class='text'>" + "<p>One line more than there is room.</p>" * 40 + "</div>", "overflows"),
        "wide": ("<pre style='white-space:pre;font-size:20px'>" + "x" * 200 + "</pre>", "overflows"),
        "margin": ("<p style='position:absolute;left:1150px;width:120px'>at the rim</p>", "outside"),
        "aside": ("<p style='position:absolute;top:900px'>below</p>", "outside"),
        "tiny": ("<p style='font-size:12px'>read this</p>", "12px"),
        "hidden": ("<p style='visibility:hidden'>nobody sees it</p>", "cannot be seen"),
        "lost": (f"<figure><img alt='x' src='{NO_PICTURE}'></figure>", "a picture is not there"),
        "small": (f"<p><img alt='x' width=90 src='data:image/png;base64,{dot}'></p>", "a picture of 90 pixels"),
        "mute": (f"<figure><img alt='' src='data:image/png;base64,{dot}'></figure>", "without alt text"),
        "remote": ("<figure><img alt='x' src='http://nobody.invalid/x.png'></figure>", "a request went to nobody.invalid"),
        "script": ("<script>throw new Error('on purpose')</script>", "on purpose"),
        "folded": ("<details><summary>Answer</summary>no key opens it</details>", "1 parts not shown"),
        "file": ("<figure><img alt='x' src='nothing.png'></figure>", "404"),
    }


def self_test(watch: Watch, folder: Path) -> list[str]:
    """Whatever the gate fails to notice, and whatever it complains of on a good slide."""
    copy_reveal(folder / "reveal")
    good = Slide("good", "a notebook", "", [("good", "<div class='text'><h2>A question?</h2><p>A claim.</p></div>")], [])
    cases = {"good": ("", "")} | broken()
    missed = []
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for name, (text, complaint) in cases.items():
            stack = [good, good._replace(ident=name, blocks=[(name, text)])] if text else [good]
            (folder / f"{name}.html").write_text(deck(name, [stack]), encoding="utf-8")
            found = watch.visit(f"http://127.0.0.1:{running.server_port}/{name}.html")[0] + watch.keys()
            if not any(complaint in each for each in found) if complaint else found:
                missed.append(f"the gate, shown a slide that is {name}, says {found}")
        running.shutdown()
    return missed


def main() -> int:
    """Build the decks and visit them; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", nargs="*", default=[], help="the beginnings of the names of decks to keep pictures of")
    options = parser.parse_args()
    if not Path(CHROMIUM).exists():
        sys.exit(f"no Chromium at {CHROMIUM}: apt-get install chromium, or say where it is: CHROMIUM=/path/to/it make browser")
    start, slides, pictures, smallest = time.perf_counter(), 0, 0, 99.0
    written = build()
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="minideeplab-") as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        watch = Watch(browser.new_page(viewport={"width": 1280, "height": 720}))
        found = self_test(watch, Path(folder))
        with server(BUILT) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            for path in written:
                shots = (
                    (lambda n, stem=path.stem: SHOTS / f"slides-{stem}-{n:02d}.png")
                    if path.stem.startswith(tuple(options.shots))
                    else None
                )
                wrong, *counted = watch.visit(
                    f"http://127.0.0.1:{running.server_port}/{path.name}", shots if options.shots else None
                )
                found += [f"{path.name}: {text}" for text in (wrong if path.stem in ROUTES else wrong + watch.keys())]
                slides, pictures, smallest = slides + counted[0], pictures + counted[1], min(smallest, counted[2])
            running.shutdown()
        browser.close()
    noticed = (
        f"{len(broken())} broken slides noticed" if not any("the gate" in text for text in found) else "the self-test FAILED"
    )
    what = f"{slides} slides of {len(written)} decks, {pictures} pictures, text of {smallest:.1f} px and more"
    seconds = time.perf_counter() - start
    print(f"{BUILT.relative_to(ROOT)}: {what}, {len(found)} complaints; {noticed}; {seconds:.0f} s")
    print("\n".join(found[:30]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
