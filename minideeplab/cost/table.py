"""One table, three forms: plain text, Markdown that pastes into a paper or an issue, HTML in Jupyter."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Table(NamedTuple):
    """Cells as text under a header; the caption states the convention. Columns of numbers are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str

    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [all(row[i][:1].isdigit() or row[i] in ("", "all") for row in self.rows) for i in range(len(self.header))]

    def text(self) -> str:
        """Aligned columns, the caption below."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        pad = [str.rjust if number else str.ljust for number in self.numeric()]
        aligned = ["  ".join(side(cell, width) for side, cell, width in zip(pad, line, widths, strict=True)) for line in lines]
        return "\n".join(line.rstrip() for line in [*aligned, self.caption])

    def markdown(self) -> str:
        """A pipe table, the caption below."""
        rule = ["--:" if number else ":--" for number in self.numeric()]
        lines = [f"| {' | '.join(line)} |" for line in [self.header, rule, *self.rows]]
        return "\n".join([*lines, "", self.caption])

    def html(self) -> str:
        """A table with a caption and column headers."""
        align = ["right" if number else "left" for number in self.numeric()]

        def line(tag: str, cells: Sequence[str]) -> str:
            styled = zip(align, cells, strict=True)
            inner = (f'<{tag} style="text-align:{side}">{escape(cell)}</{tag.split()[0]}>' for side, cell in styled)
            return f"<tr>{''.join(inner)}</tr>"

        head, body = line('th scope="col"', self.header), "".join(line("td", row) for row in self.rows)
        return f"<table><caption>{escape(self.caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()
