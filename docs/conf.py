"""How Sphinx builds these pages: without a network, and with every warning an error."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pacifica-notifications-consumer"
author = "the authors of pacifica-notifications-consumer"
version = release = installed_version("pacifica-notifications-consumer")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["_build", "_ext"]

_pages = (
    ("reference/start-command", "start-pacifica-notifications-consumer", "deploy a Pacifica consumer"),
    ("reference/commands", "pacifica-notifications-consumer", "make, try and look after Pacifica consumers"),
)
man_pages = [(source, name, description, [author], 1) for source, name, description in _pages]

html_theme = "alabaster"
html_title = f"{project} {version}"
html_theme_options = {"fixed_sidebar": True, "page_width": "70rem", "sidebar_width": "18rem"}
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# A name in single backticks in a docstring is a Python name.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
# Defaults as the code writes them, not as they are on the machine that builds these pages.
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
