"""How Sphinx makes pages of docs/: `sphinx-build -W docs docs/_build`. Nothing in them is loaded from elsewhere."""
from __future__ import annotations

import tomllib
from pathlib import Path

project = "Federated Health"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
copyright = ""
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links to headings as GitHub knows them
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_copy_source = False
