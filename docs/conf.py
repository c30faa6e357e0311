"""Settings of the documentation's builder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import inloop
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

os.environ.setdefault("KERAS_BACKEND", "torch")  # the one that the extra "keras" brings along

project = "inloop"
author = "the inloop authors"
copyright = author
version = release = inloop.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `Name` in a docstring is a link
html_theme = "furo"
html_title = f"inloop {release}"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False  # what a method of a sampler or storage promises is said once, by its abstract class
maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_heading_anchors = 3


def resolve_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Element | None:
    """Link `MedianPruner` to the one object of that name, wherever it is documented."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    found = {obj.docname: obj for name, obj in env.get_domain("py").objects.items() if name.endswith("." + target)}
    if len(found) != 1:
        return None
    [obj] = found.values()
    return make_refnode(app.builder, node["refdoc"], obj.docname, obj.node_id, text, target)


def setup(app: Sphinx) -> None:
    """Register the resolver."""
    app.connect("missing-reference", resolve_short_name)
