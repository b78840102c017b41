"""What can be wrong with the HTML of the site without opening it: `make docs` asks.

Links and anchors that lead nowhere, files and scripts of other hosts, pictures without words, an id given twice.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "object": "data"}


class Page(HTMLParser):
    """The ids of a page, where it leads, what it loads, and the pictures that have no words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.mute: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Write down what this tag is or asks for."""
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not {"canonical", "search", "index", "prev", "next"} & set(given.get("rel", "").split()):
            self.loaded.append(given.get("href", ""))
        if given.get(LOADED.get(tag, "")):
            self.loaded.append(given[LOADED[tag]])
        if tag == "img" and not given.get("alt", "").strip():
            self.mute.append(given.get("src", "")[:60])


def complaints(folder: Path) -> list[str]:
    """Everything that is wrong in a folder of pages, each with its page."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        wrong = [f"a picture without words: {source}" for source in page.mute]
        wrong += [f"the id {name} twice" for name in sorted(set(page.ids)) if page.ids.count(name) > 1]
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme in ("data", "mailto") or (parts.scheme in ("http", "https") and url not in page.loaded):
                continue
            if parts.scheme or parts.netloc:
                wrong.append(f"it loads {url}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                wrong.append(f"a link to nothing: {url}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                wrong.append(f"no such place: {url}")
        found += [f"{path.relative_to(folder).as_posix()}: {text}" for text in dict.fromkeys(wrong)]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(complaints(Path(sys.argv[1]).resolve())) or None)
