"""Sphinx configuration of the documentation site."""

import sys
from pathlib import Path

import primepods

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "primepods"
author = project_copyright = "primepods contributors"
version = release = primepods.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "papers",
    "commands",
    "reference",
    "llms",
]
exclude_patterns = ["_*"]
nitpicky = True

html_theme = "furo"
html_title = "primepods"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_search_scorer = str(Path(__file__).parent / "_ext" / "search_scorer.js")
html_copy_source = False
html_domain_indices = html_use_index = False  # the pages and the search suffice
html_show_sphinx = False

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Remedy"]

copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

# Types that users meet in a signature and never name.
nitpick_ignore = [
    ("py:class", "LeaseArguments"),
    ("py:class", "primepods._utils.iterators.ClosableAsyncIterator"),
    ("py:class", "primepods._utils.iterators.ClosableIterator"),
    ("py:class", "primepods._utils.pod_reference.PodReference"),
    ("py:class", "primepods.emulator._api.http.Request"),
    ("py:class", "primepods.notebook._live.WaitOptions"),
    ("py:class", "primepods.resources.availability.OfferCriteria"),
    ("py:class", "primepods.resources.availability.OfferFilters"),
    ("py:class", "primepods.specs.PodChanges"),
]
