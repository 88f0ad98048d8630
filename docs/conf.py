"""How Sphinx builds the manual: offline, every warning an error."""

import sys
from pathlib import Path

import anabranch

# Autodoc writes into the annotations of the classes that it meets, and pydantic can make no
# subclass of these then: so those that are described are made before.
import anabranch.rag.adapters.langchain
import anabranch.rag.durable
import anabranch.rag.query

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "anabranch"
author = "the anabranch authors"
project_copyright = "the anabranch authors, Apache-2.0"
release = version = anabranch.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
]
exclude_patterns = ["_build", "_extensions"]

html_theme = "furo"
html_title = f"anabranch {release}"
html_static_path = ["_static"]
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {
    "members": True,
    "imported-members": True,
    "show-inheritance": True,
    "undoc-members": True,  # a public name is never left out
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

# A field of a record is documented once, in the record's docstring or at the field.
napoleon_use_ivar = True
