"""docs/explorer.html in headless Chromium, against the library: `make browser` runs it too.

The page is moved through random settings by its own sliders, and every number it shows is compared with what
`minideeplab.course.explorer` says. It must work by keyboard alone, log no error and ask no host for anything. Pictures of
it, light, dark and narrow, go to build/browser/.
"""

import argparse
import random
import re
import sys
from fractions import Fraction

from browser import CHROMIUM, FLAGS, ROOT, SHOTS
from playwright.sync_api import Page, sync_playwright

from minideeplab.blocks.atrous import mean_taps_inside
from minideeplab.course.explorer import STOPS, Setting
from minideeplab.geometry import effective_kernel

PAGE = ROOT / "docs" / "explorer.html"
LONGEST = 150  # lines: one page is a promise
MOVE = """places => {
    for (const [name, place] of Object.entries(places)) document.getElementById(name).value = place;
    document.getElementById('sliders').dispatchEvent(new Event('input', {bubbles: true}));
}"""
READ = """() => ({
    rows: [...document.querySelectorAll('#rows tr')].map(row => [...row.cells].slice(0, 4).map(cell => cell.textContent)),
    facts: Object.fromEntries(['map', 'span', 'field', 'taps'].map(id => [id, document.getElementById(id).textContent])),
    dots: ['in', 'out'].map(kind => document.querySelectorAll('#picture circle.' + kind).length),
    bars: [...document.querySelectorAll('#rows tr')].map(
        row => [...row.querySelectorAll('i')].map(bar => parseFloat(bar.style.width))),
})"""


def whole(text: str) -> int:
    """A number as the page writes it."""
    return int(text.replace(",", ""))


def compare(page: Page, setting: Setting) -> list[str]:
    """Move the sliders there; everything the page shows that the library would not."""
    page.evaluate(MOVE, {name: list(STOPS[name]).index(value) for name, value in setting._asdict().items()})
    shown, n = page.evaluate(READ), setting.map_size
    costs = setting.costs()
    dense = next(iter(costs.values()))
    wanted = [(name, cost.params, cost.macs, Fraction(cost.macs, dense.macs)) for name, cost in costs.items()]
    got = [
        (name.replace("×", "x"), whole(params), whole(macs), Fraction(share.removesuffix("%")) / 100)
        for name, params, macs, share in shown["rows"]
    ]
    found = [
        f"{wrong[:3]} instead of {right[:3]}"
        for wrong, right in zip(got, wanted, strict=True)
        if wrong[:3] != right[:3] or abs(wrong[3] - right[3]) > Fraction(1, 2000)
    ]
    span = effective_kernel(setting.kernel, setting.rate)
    for name, right in {"map": f"{n} × {n}", "span": f"{span}", "field": f"{setting.receptive_field:,}"}.items():
        if shown["facts"][name] != right:
            found.append(f"{name} {shown['facts'][name]} instead of {right}")
    taps, of = shown["facts"]["taps"].split(" of ")
    exact = mean_taps_inside(n, setting.rate, setting.kernel)
    if abs(Fraction(taps) - exact) > Fraction(1, 200) or int(of) != setting.kernel**2:
        found.append(f"taps {taps} of {of} instead of {float(exact)}")
    if shown["dots"] != [(inside := taps_at_the_middle(setting)), setting.kernel**2 - inside]:
        found.append(f"dots {shown['dots']} instead of {inside} on the map")
    widest = max(cost.params for cost in costs.values())
    if any(abs(sum(bar) - 98 * cost.params / widest) > 0.01 for bar, cost in zip(shown["bars"], costs.values(), strict=True)):
        found.append(f"bars {shown['bars']}")
    return [f"{setting}: {text}" for text in found]


def taps_at_the_middle(setting: Setting) -> int:
    """Counted, not computed."""
    middle, reach = setting.map_size // 2, setting.kernel // 2
    taps = [middle + tap * setting.rate for tap in range(-reach, reach + 1)]
    return sum(0 <= row < setting.map_size and 0 <= column < setting.map_size for row in taps for column in taps)


def keyboard(page: Page) -> list[str]:
    """Tab reaches the sliders in order, and each can be moved and is announced with its value."""
    found = []
    page.reload()
    for name, value in Setting()._asdict().items():
        page.keyboard.press("Tab")
        slider = page.get_by_role("slider", name=name.replace("_", " "))
        if page.evaluate("document.activeElement.id") != name:
            found.append(f"Tab does not reach {name}")
        stops = list(STOPS[name])
        for key, stop in (("ArrowRight", stops[stops.index(value) + 1]), ("End", stops[-1]), ("Home", stops[0])):
            page.keyboard.press(key)
            if slider.get_attribute("aria-valuetext") != str(stop) or page.locator(f"#{name}_value").inner_text() != str(stop):
                found.append(f"{key} does not move {name} to {stop}")
    status = page.get_by_role("status").inner_text()
    if not re.search(r"^24 channels, 1 × 1 at rate 1: .* 600 weights instead of 576; 1.00 of 1 taps", status):
        found.append(f"the status says {status!r}")
    return found


def main() -> int:
    """Visit the page; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=250, help="how many random settings are compared (default: 250)")
    options = parser.parse_args()
    draw, found, asked = random.Random(4), [], set()
    settings = [Setting(**{name: draw.choice(stops) for name, stops in STOPS.items()}) for _ in range(options.settings)]
    lines = len(PAGE.read_text(encoding="utf-8").splitlines())
    if lines >= LONGEST:
        found.append(f"{PAGE.name} has {lines} lines: fewer than {LONGEST} are a page that can be read")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 860})
        page.on("request", lambda request: asked.add(request.url))
        page.on("console", lambda message: found.append(f"the browser logged: {message.text}"))
        page.on("pageerror", lambda error: found.append(f"the browser logged: {error}"))
        page.goto(PAGE.as_uri())
        shown = page.evaluate("() => STOPS")
        if shown != {name: list(stops) for name, stops in STOPS.items()}:
            found.append(f"the page's sliders stop at {shown}")
        found += [text for setting in [Setting(), *settings] for text in compare(page, setting)]
        found += keyboard(page)
        for look, width in (("light", 1100), ("dark", 1100), ("narrow", 390)):
            page.emulate_media(color_scheme="dark" if look == "dark" else "light")
            page.set_viewport_size({"width": width, "height": 860})
            compare(page, Setting(rate=12))
            page.screenshot(path=str(SHOTS / f"explorer-{look}.png"), full_page=True)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"at {width} pixels the page is wider than the window")
        browser.close()
    found += [f"a request for {url}" for url in sorted(asked) if url != PAGE.as_uri() and not url.startswith("data:")]
    print(
        f"{PAGE.name}: {len(settings)} random settings, {len(found)} complaints; see {SHOTS.relative_to(ROOT)}/explorer-*.png"
    )
    print("\n".join(found[:20]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
