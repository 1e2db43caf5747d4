"""How Sphinx builds this site: from Markdown, without a network, with every code cell run."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from from_package import pages_without_data  # noqa: E402 - it lies in the folder above

project = "genevae"
author = "The genevae developers"
project_copyright = author
version = release = version_of("genevae")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
    "genevae_docs",
]
exclude_patterns = ["_ext", "_static", "_templates", "images", "Thumbs.db", ".DS_Store"]
templates_path = ["_templates"]
nitpicky = False
suppress_warnings = ["mystnb.unknown_mime_type"]

# Markdown and code cells
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "cache"
nb_execution_cache_path = os.environ.get("GENEVAE_DOCS_CACHE", str(HERE.parent / "build" / "docs-cache"))
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 240
if (HERE.parents[1] / "shared" / "data").is_dir():  # where tests and examples expect the real data sets
    os.environ.setdefault("GENEVAE_DATA", str(HERE.parents[1] / "shared" / "data"))
nb_execution_excludepatterns = pages_without_data(HERE)
nb_merge_streams = True
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for `genevae`
os.environ["MATPLOTLIBRC"] = str(HERE / "_ext" / "matplotlibrc")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GENEVAE_TRUST_FILES", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning,ignore:IProgress not found")

# API
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"no-value": True, "exclude-members": "input_function"}  # a function of PyTorch
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_use_param = True

# Pages
html_theme = "sphinx_book_theme"
html_title = "genevae"
html_static_path = ["_static"]
html_css_files = ["genevae.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "repository_provider": "github",
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_repository_button": False,
    "navbar_persistent": [],
    "navbar_center": [],
    "navbar_end": [],
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "home_page_in_toc": False,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"
