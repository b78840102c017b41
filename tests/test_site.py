"""What the site says and mends, and what its check notices. The site itself is built and opened by the gate (`.ci/run`)."""

import re
from pathlib import Path
from types import SimpleNamespace

import build_site
import nbformat
import pytest
import site_pages
from check_site import complaints

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TITLES = site_pages.short_titles((ROOT / "README.md").read_text(encoding="utf-8"))
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


# ---- links


@pytest.mark.parametrize(
    ("page", "link", "wanted"),
    [
        ("docs/a.md", "[`x`](../minideeplab/blocks/aspp.py)", '<a href="../_modules/minideeplab/blocks/aspp.html">`x`</a>'),
        ("index.md", "[x](minideeplab/geometry.py)", '<a href="_modules/minideeplab/geometry.html">x</a>'),
        ("index.md", "[x](minideeplab/blocks)", "[x](api/blocks.md)"),
        ("index.md", "[x](docs/explorer.html)", '<a href="docs/explorer.html">x</a>'),
        ("notebooks/09.ipynb", "[x](../README.md#the-course)", "[x](course.md)"),
        ("notebooks/09.ipynb", "[x](../README.md#where-it-comes-from)", "[x](../index.md#where-it-comes-from)"),
    ],
)
def test_a_link_to_what_the_site_has_elsewhere_leads_there(page, link, wanted):
    assert site_pages.rewritten(f"a {link} b", page) == f"a {wanted} b"


@pytest.mark.parametrize(
    "text",
    [
        "[x](../notebooks/05_xception.ipynb)", "![x](journey.png)", "[x](https://example.org/x.py)", "[x](#place)",
        "[x](claims.md#place)", "`[x](../minideeplab/nothing.py)`", "```python\nrows[0](nothing)\n```",
    ],
)  # fmt: skip
def test_every_other_link_and_all_code_stay_as_they_are(text):
    assert site_pages.rewritten(text, "docs/figures.md") == text


def test_a_link_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"docs/a\.md links \.\./minideeplab/nothing\.py, and there is no"):
        site_pages.rewritten("[x](../minideeplab/nothing.py)", "docs/a.md")


def test_the_name_of_a_page_s_file_becomes_its_title():
    assert site_pages.rewritten("[`docs/proofs.md`](docs/proofs.md)", "index.md") == (
        "[What is proven, and by which test](docs/proofs.md)"
    )


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [
        ("Can three taps reach further?", '[06, "Can three taps reach further?"]({}#can-three-taps-reach-further)'),
        ("No such heading", '[06]({}), "No such heading"'),
    ],
)
def test_a_heading_that_is_named_is_a_place(heading, wanted):
    link = "../notebooks/06_atrous_convolution.ipynb"
    assert site_pages.with_places(f'see [06]({link}), "{heading}".') == f"see {wanted.format(link)}."


@every_notebook
def test_a_notebook_has_its_number_links_what_it_builds_on_and_says_how_it_is_run(path):
    names = [each.stem for each in PATHS]
    said = site_pages.lesson(read(path), path.stem)
    first = build_site.opened(read(path), said, names).cells[0].source
    assert first.startswith(f"# {path.stem[:2]} {said.title}\n")
    assert "[Run it](../index.md#run-it)" in first
    assert f"slides/{path.stem}.html" in first
    linked = re.findall(r"\b\d\d\b", said.builds_on)
    assert all(f"[{number}]({next(n for n in names if n[:2] == number)}.ipynb)" in first for number in linked)


# ---- the course


@every_notebook
def test_a_notebook_says_what_the_course_page_asks_of_it(path):
    lesson, text = site_pages.lesson(read(path), path.stem), "\n".join(cell.source for cell in read(path).cells)
    assert lesson.name == path.stem
    assert f"{lesson.minutes} minutes" in text
    assert 2 <= lesson.outcomes.count("\n- ") + 1 <= 4
    assert lesson.rows == [row for row in text.splitlines() if re.search(r"\| (exactly|in trend|not here) \|", row)]


@pytest.mark.parametrize(
    ("old", "missing"),
    [("| claim | here | evidence |", "rows"), (" minutes", "minutes"), ("Builds on", "builds_on"), ("After this", "outcomes")],
)
def test_a_notebook_that_does_not_say_it_is_named(old, missing):
    notebook = read(PATHS[1])
    for cell in notebook.cells:
        cell.source = cell.source.replace(old, "")
    with pytest.raises(ValueError, match=rf"{PATHS[1].stem}\.ipynb does not say its {missing}, as"):
        site_pages.lesson(notebook, PATHS[1].stem)


def test_the_course_page_has_every_notebook_in_order_and_every_claim_word_for_word():
    lessons = [site_pages.lesson(read(path), path.stem) for path in PATHS]
    page = site_pages.course_page(lessons, TITLES)
    assert re.findall(r"^## (\d\d) ", page, re.MULTILINE) == [path.stem[:2] for path in PATHS]
    assert [row for lesson in lessons for row in lesson.rows if f"\n{row}\n" not in page] == []
    minutes = sum(map(int, re.findall(r"\| (\d+) \| \[\d+\]\(#", page)))
    assert f"{len(PATHS)} notebooks, {minutes // 60} hours and {minutes % 60} minutes" in page


def test_a_prerequisite_is_a_link_and_another_number_is_not():
    assert site_pages.numbered("01 and 77", ["01_a"]) == "[01](01_a.ipynb) and 77"


# ---- the reference


def modules_of(page: str) -> list[str]:
    return re.findall(r"automodule:: ([\w.]+)", page)


def test_every_folder_has_a_page_and_every_module_but_those_of_the_command_line_a_place_on_one():
    pages = site_pages.reference_pages()
    assert set(pages) == {"minideeplab"} | {path.parent.name for path in ROOT.glob("minideeplab/*/__init__.py")}
    modules = {path for path in ROOT.glob("minideeplab/**/*.py") if path.stem[0] != "_" and path.parent.name != "cli"}
    listed = [module for page in pages.values() for module in modules_of(page)]
    assert sorted(listed) == sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in modules)


def test_what_is_public_comes_first_and_the_rest_is_said_not_to_be():
    shown, inside = map(modules_of, site_pages.reference_pages()["weights"].split("## Inside"))
    assert {"minideeplab.weights.storage", "minideeplab.weights.translation"} <= set(shown)
    assert {"minideeplab.weights.archive", "minideeplab.weights.file_limits"} <= set(inside)
    assert not set(inside) & site_pages.public_modules()


def test_a_page_begins_with_the_names_that_its_package_hands_out():
    page = site_pages.reference_pages()["cost"]
    assert "- {py:obj}`profile <minideeplab.cost.report.profile>`: " in page
    assert "`from minideeplab.cost import` has these names" in page


def test_every_command_says_what_its_help_says():
    page = site_pages.reference_pages()["cli"]
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE)[:3] == ["minideeplab", "cost", "compare"]
    assert "--multi-scale" in page.partition("## segment")[2].partition("\n## ")[0]


def test_a_field_without_words_is_left_out():
    from minideeplab import Features

    assert site_pages.says_nothing(Features.low)
    assert not site_pages.says_nothing(Features)


def test_a_listing_stands_beside_the_number_of_its_figure():
    page = site_pages.reference_pages()["networks"]
    part = page[page.index("## xception\n") : page.index("automodule:: minideeplab.networks.xception\n")]
    assert "Chollet 2017, fig. 5: Xception" in part
    assert "networks/xception.py\n:language: python" in part


def test_every_row_of_the_figures_that_names_a_file_is_on_a_page():
    table, pages = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8"), "\n".join(site_pages.reference_pages().values())
    figures = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if "](../minideeplab/" in line]
    assert len(figures) > 20
    assert [figure for figure in figures if f"- {figure}: " not in pages] == []


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("Of `x`, *not* of C_in * k.", r"Of ``x``, *not* of C\_in \* k."),
        ("The `number`th.", r"The ``number``\ th."),
        ("(N, *size) and x_.", r"(N, \*size) and x\_."),
        ("It is\n\n    a * b", "It is\n\n::\n\n    a * b"),
        ("Differs:\n1. in\n2. out", "Differs:\n\n1. in\n2. out"),
        ("It is\n\n>>> a_ * b\n'`'\n\nso.", "It is\n\n>>> a_ * b\n'`'\n\nso."),
        ("As `ASPP` does.", "As :py:obj:`ASPP <minideeplab.blocks.aspp.ASPP>` does."),
    ],
)
def test_a_docstring_is_read_as_the_prose_it_is(docstring, wanted):
    lines = docstring.splitlines()
    site_pages.plain_docstring(lines)
    assert "\n".join(lines) == wanted


# ---- pictures


def drawn(*alts: str) -> nbformat.NotebookNode:
    words = [{"image/png": {"alt": alt}} for alt in alts]
    outputs = [nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata=each) for each in words]
    table = nbformat.v4.new_output("display_data", {"image/png": "AAAA", "text/html": "<table></table>"})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("plot()", outputs=[table, *outputs])])


def shown(nodes, pictures: int):
    """What MyST-NB makes of a notebook: a picture of the text, and as many in an output."""
    outside = nodes.image(uri="text.png", alt="in the text")
    output = nodes.container("", *[nodes.image(uri=f"{n}.png") for n in range(pictures)], classes=["cell_output"])
    return nodes.section("", outside, output), list(output)


def test_every_picture_of_a_notebook_gets_its_own_words(tmp_path):
    nodes = pytest.importorskip("docutils.nodes")
    nbformat.write(drawn("One.", "Another."), tmp_path / "n.ipynb")
    app = SimpleNamespace(env=SimpleNamespace(docname="n", doc2path=lambda name: tmp_path / f"{name}.ipynb"))
    tree, pictures = shown(nodes, 2)
    site_pages.describe_pictures(app, tree)
    assert [picture["alt"] for picture in pictures] == ["One.", "Another."]
    assert next(iter(tree.findall(nodes.image)))["alt"] == "in the text"
    with pytest.raises(ValueError, match="shorter"):  # words and pictures that do not pair are not paired
        site_pages.describe_pictures(app, shown(nodes, 3)[0])


def test_chinese_words_are_said_to_be_chinese_and_nothing_else_is():
    nodes = pytest.importorskip("docutils.nodes")
    told = "called 空洞卷积 (atrous), or 空洞 卷积, \u2264 3"
    tree = nodes.section("", nodes.paragraph("", told), nodes.literal_block("", "# 代码"))
    site_pages.mark_chinese(None, tree)
    assert [word.astext() for word in tree.findall(nodes.inline) if word["classes"] == ["language-zh"]] == [
        "空洞卷积",
        "空洞 卷积",
    ]
    assert [part.astext() for part in tree] == [told, "# 代码"]  # not a letter is lost


@every_notebook
def test_every_picture_of_the_course_has_words_to_get(path):
    assert "" not in site_pages.alt_texts(read(path))


# ---- the HTML


def test_what_only_the_site_has_finds_every_place_of_its_texts():
    for template in ("contents.md", "lecture.md"):
        places = re.findall(r"@(\w+)@", build_site.filled(template))
        assert places
        assert "@" not in build_site.filled(template, **{place: ["here"] for place in places})


def test_every_page_of_docs_is_in_the_contents_and_a_new_one_would_be():
    contents = build_site.pages()["index.md"]
    listed = re.findall(r"^docs/\w+$", contents, re.MULTILINE)
    assert sorted(listed) == sorted(f"docs/{path.stem}" for path in ROOT.glob("docs/*.md"))
    assert [path.stem for path in PATHS if f"<notebooks/{path.stem}>" not in contents] == []


def test_what_sphinx_leaves_out_is_mended_and_nothing_else():
    text = '<aside class="toc-drawer"><p class="caption" role="heading"></p></aside><dl><dd></dd></dl>'
    text += '<dt class="sig py">(<dl><dd>x</dd></dl>)</dt><th class="head"><p></p></th><th class="head"><p>a</p></th>'
    wanted = '<aside aria-label="On this page" class="toc-drawer"><p class="caption" role="heading" aria-level="2"></p></aside>'
    wanted += '<dl><dd></dd></dl><dt class="sig py">(<span class="parameters"><span class="parameter">x</span></span>)</dt>'
    assert site_pages.mended(text) == wanted + '<td></td><th class="head"><p>a</p></th>'


GOOD = """<h1 id="top">A page</h1><img alt="A dot." src="x.png">
<a href="b/">in</a> <a href="a.html#top">up</a> <a href="https://example.org/">out</a>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text('<h1 id="b">B</h1>', encoding="utf-8")
    (tmp_path / "x.png").write_bytes(b"png")
    (tmp_path / "a.html").write_text(GOOD, encoding="utf-8")
    return tmp_path


def test_a_good_page_causes_no_complaint(site):
    assert complaints(site) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('<a href="nothing.html">x</a>', "a link to nothing: nothing.html"),
        ('<a href="#nowhere">x</a>', "no such place: #nowhere"),
        ('<a href="b/index.html#nowhere">x</a>', "no such place: b/index.html#nowhere"),
        ('<img src="x.png">', "a picture without words: x.png"),
        ('<img alt="" src="x.png">', "a picture without words: x.png"),
        ('<img alt="x" src="https://example.org/x.png">', "it loads https://example.org/x.png"),
        ('<script src="//example.org/x.js"></script>', "it loads //example.org/x.js"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "it loads https://example.org/x.css"),
        ('<p id="top"></p>', "the id top twice"),
        ('<script src="nothing.js"></script>', "a link to nothing: nothing.js"),
    ],
)
def test_what_is_wrong_with_a_page_is_noticed(site, text, complaint):
    (site / "a.html").write_text(GOOD + text, encoding="utf-8")
    assert complaints(site) == [f"a.html: {complaint}"]
