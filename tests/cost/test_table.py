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
        "| stem &lt;a &amp; b&gt; | 1,234 |",
        "| head | all |",
        "|  | 7 |",
        "",
        'in "MACs" &amp; more',
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


HOSTILE = "a|b\\\nc\x1b[31m `d` *e* [f](g)\r\u202e <script>"


def test_no_cell_breaks_out_of_a_markdown_table():
    lines = Table([HOSTILE, "n"], [[HOSTILE, "1"]], HOSTILE).markdown().splitlines()
    assert len(lines) == 5
    bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines]
    assert bars == [3, 3, 3, 0, 0]
    assert "<" not in "".join(lines)
    assert r"a\|b\\\\nc\\x1b\[31m \`d\` \*e\* \[f\](g)" in lines[2]


@pytest.mark.parametrize("form", [Table.text, Table.markdown, Table.html])
def test_no_character_that_a_terminal_obeys_gets_out(form):
    shown = form(Table([HOSTILE], [[HOSTILE]], HOSTILE))
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert shown.count("x1b") == 3


@pytest.mark.parametrize(
    "cell", ["-0.14", "+3", "12.5%", "-.5", "7 ms", "\u22121", "", "all", "whole image", "unknown", "nan", "-inf"]
)
def test_numbers_and_the_words_in_their_place_stand_right(cell):
    assert Table(["a", "b"], [["1", "word"], [cell, "2"]], "").numeric() == [True, False]


@pytest.mark.parametrize("cell", ["-", "conv2d", "--json", "x 3", "allowed"])
def test_words_stand_left(cell):
    assert Table(["a"], [["1"], [cell]], "").numeric() == [False]
