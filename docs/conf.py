"""How Sphinx makes the site: ``make docs``. Every warning is an error there: a broken link, a name that is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import generate  # noqa: E402  beside this file

from tulu_eval import __version__  # noqa: E402

project = "tulu-eval"
author = "the authors of tulu-eval"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
html_theme = "furo"
html_title = f"tulu-eval {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["generate.py", "conf.py"]
highlight_language = "text"
smartquotes = False  # they make one dash of an option's two
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!tulu_eval\.).*"),  # other packages, and what napoleon takes for a type before a colon
    ("py:.*", r"tulu_eval\.(\w+\..*|[a-z]+)"),  # modules behind the door, which have no page
]


def escape_help(_app: Any, _context: Any, lines: list[str]) -> None:
    """Keeps an asterisk in an option's help from being read as markup."""
    lines[:] = [line.replace("*", "\\*") if line.startswith("   ") else line for line in lines]


def show_examples(_app: Any, _context: Any, lines: list[str]) -> None:
    """Makes a block of code of a help text's list of examples."""
    new: list[str] = []
    for line in lines:
        if not line.startswith("| "):
            new.append(line)
        elif line.startswith("| Example"):
            new += [line[2:], "", ".. code-block:: bash", ""]
        else:
            new.append(f"    {line[2:].strip()}" if ".. code-block:: bash" in new else line)
    lines[:] = new


def link_pages(_app: Any, page: str, source: list[str]) -> None:
    """Turns links of a page to files outside this folder into links to their pages."""
    if not page.startswith("generated/"):
        source[0] = generate.with_pages(source[0], DOCS)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda _app: generate.write(DOCS / "generated"))
    app.connect("source-read", link_pages)
    app.connect("sphinx-click-process-options", escape_help)
    app.connect("sphinx-click-process-description", show_examples)
