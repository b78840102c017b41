"""One table, three forms: plain text, Markdown that pastes into a paper or an issue, HTML in Jupyter."""

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

NUMBER = re.compile(r"[-+\u2212]?\.?\d")  # what a number begins with, a thousand, a percentage or a quantity with its unit
WORDS = ("", "all", "whole image", "unknown", "nan", "inf", "-inf")  # that stand in the place of a number


class Table(NamedTuple):
    """Cells as text under a header; the caption states the convention. Columns of numbers are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str

    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [all(NUMBER.match(row[i]) or row[i] in WORDS for row in self.rows) for i in range(len(self.header))]

    def text(self) -> str:
        """Aligned columns, the caption below."""
        lines = [[_visible(cell) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        pad = [str.rjust if number else str.ljust for number in self.numeric()]
        aligned = ["  ".join(side(cell, width) for side, cell, width in zip(pad, line, widths, strict=True)) for line in lines]
        return "\n".join(line.rstrip() for line in [*aligned, _visible(self.caption)])

    def markdown(self) -> str:
        """A pipe table, the caption below."""
        rule = ["--:" if number else ":--" for number in self.numeric()]
        cells = [[_literal(cell) for cell in line] for line in (self.header, *self.rows)]
        lines = [f"| {' | '.join(line)} |" for line in [cells[0], rule, *cells[1:]]]
        return "\n".join([*lines, "", _literal(self.caption)])

    def html(self) -> str:
        """A table with a caption and column headers."""
        align = ["right" if number else "left" for number in self.numeric()]

        def line(tag: str, cells: Sequence[str]) -> str:
            styled = zip(align, cells, strict=True)
            inner = (f'<{tag} style="text-align:{side}">{escape(_visible(cell))}</{tag.split()[0]}>' for side, cell in styled)
            return f"<tr>{''.join(inner)}</tr>"

        head, body = line('th scope="col"', self.header), "".join(line("td", row) for row in self.rows)
        return f"<table><caption>{escape(_visible(self.caption))}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def _visible(text: str) -> str:
    """The text in one line, with every character that a terminal would obey written down as its code."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _literal(text: str) -> str:
    """The text as Markdown shows it: no cell ends early, and neither HTML nor emphasis nor a link begins."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escape(_visible(text), quote=False))
