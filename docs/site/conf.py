"""How Sphinx makes the site: `make docs` lays out the pages (tools/build_site.py) and starts it with this file."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from site_pages import describe_pictures, mark_chinese, plain_docstring, says_nothing  # noqa: E402

project = "minideeplab"
author = "the authors of minideeplab"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]

smartquotes = False  # the text is the one that is committed
myst_heading_anchors = 3
nb_execution_mode = "off"  # what is shown is what is committed, and compared by `make test`
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would be asked of another host

copybutton_selector = "div:not(.output) > div.highlight pre"  # what was printed is not for copying
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. ", True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "no-value": True}
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 120
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "minideeplab"
html_favicon = "static/icon.svg"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_use_index = html_domain_indices = False  # the search finds more
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": [], "navigation_with_keys": True}


def setup(app):
    """What the library's docstrings and the notebooks' pictures need to be read by Sphinx."""
    app.connect("autodoc-process-docstring", lambda app, what, name, thing, options, lines: plain_docstring(lines))
    app.connect("autodoc-skip-member", lambda app, what, name, thing, skip, options: skip or says_nothing(thing))
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", mark_chinese)
