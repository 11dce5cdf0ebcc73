"""Settings of the documentation site, which `docs/make_site.py` makes. Nothing is fetched, when built or when read."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

from sphinx.application import Sphinx

project = "music-generator-rnn"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
default_role = "literal"  # `name` in a docstring
highlight_language = "text"  # of a block that names none

myst_heading_anchors = 4

autodoc_mock_imports = [name for name in ("torch", "accelerate") if find_spec(name) is None]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = project
html_favicon = "../src/music_generator/studio/static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Register what is done to each signature and docstring."""
    app.connect("autodoc-process-signature", prepare_signature)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon reads it


def prepare_signature(
    _app: Sphinx, _kind: str, _name: str, _object: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write the default of a dataclass's field that is made as Python can be read."""
    return signature and signature.replace("<factory>", "..."), returned


def prepare_docstring(_app: Sphinx, kind: str, _name: str, thing: Any, _options: Any, lines: list[str]) -> None:
    """Leave out what Python says of a constant's type; in an attribute's docstring, no type stands before the colon."""
    if kind == "data" and "\n".join(lines).strip() == inspect.getdoc(type(thing)):
        lines.clear()
    elif kind in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment
