"""One table in three forms, none of which loses a cell."""

import re
from html import unescape

import pytest

from minideeplab.cost.table import Table

TABLE = Table(["layer", "MACs"], [["stem <a & b>", "1,234"], ["head", "all"], ["", "7"]], 'in "MACs" & more')


def test_text_lines_up_numbers_right_and_words_left():
    assert str(TABLE) == TABLE.text()
    assert TABLE.text().splitlines() == [
        "layer          MACs",
        "stem <a & b>  1,234",
        "head            all",
        "                  7",
        TABLE.caption,
    ]


def test_markdown_is_a_pipe_table():
    assert TABLE.markdown().splitlines() == [
        "| layer | MACs |",
        "| :-- | --: |",
        "| stem <a & b> | 1,234 |",
        "| head | all |",
        "|  | 7 |",
        "",
        TABLE.caption,
    ]


def test_html_escapes_what_it_shows_and_has_headers_and_a_caption():
    html = TABLE._repr_html_()
    cells = [unescape(cell) for cell in re.findall(r"<t[dh] [^>]*>(.*?)</t[dh]>", html)]
    assert cells == [*TABLE.header, *(cell for row in TABLE.rows for cell in row)]
    assert unescape(re.search("<caption>(.*?)</caption>", html)[1]) == TABLE.caption
    assert "<a &" not in html
    assert html.count('scope="col"') == 2
    assert "text-align:right" in html


@pytest.mark.parametrize("form", [Table.text, Table.markdown, Table.html])
def test_a_table_without_rows_still_says_what_it_is(form):
    assert "caption" in form(Table(["a", "b"], [], "caption"))
