"""The documentation site: `make docs` builds it without network. Pages are Markdown; some are generated."""

import sys
from pathlib import Path

from common.folders import package_version

sys.path.insert(0, str(Path(__file__).with_name("_extensions")))

project = "Intuitive Fine-Tuning, made real"
version = release = package_version()
copyright = "the authors of this toolkit; Apache-2.0"
language = "en"
highlight_language = "none"  # blocks without a language are commands

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_pages",
]  # equations are plain text: no MathJax is loaded
exclude_patterns = ["_build", "figures/*.md", "audit/audit-*.md", "audit/lake-*.md", "study/*.md"]  # captions, included
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
nb_execution_mode = "force"  # the tutorial runs at every build, and an error in it stops the build
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = None

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "Intuitive Fine-Tuning, made real"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
