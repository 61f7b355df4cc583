"""Where the user was: kept in the state folder from one opening of the interface to the next."""
from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from fedtui.project import Project
from poweranger.errors import UserError
from poweranger.files import replace_file


def load(project: Project) -> dict[str, Any]:
    """What was saved last; empty when there is nothing, or nothing readable."""
    try:
        found = json.loads(_path(project).read_bytes())
    except (OSError, ValueError, UserError):
        return {}
    kinds = {"place": str, "selected": str, "theme": str, "viewed": str, "picked": list, "panes": dict}
    return {name: found[name] for name, kind in kinds.items() if isinstance(found, dict) and isinstance(found.get(name), kind)}


def save(project: Project, state: dict[str, Any]) -> None:
    """Save; a disk that is full costs only the memory."""
    with contextlib.suppress(OSError, UserError):
        content = json.dumps(state).encode()
        replace_file(_path(project), lambda file: file.write(content), durable=False)


def save_copy(project: Project, text: str) -> Path:
    """Keep a copied text that no clipboard takes; the file's path."""
    path = project.state / "copied.txt"
    replace_file(path, lambda file: file.write(text.encode("utf-8", "replace")), durable=False)
    return path


def _path(project: Project) -> Path:
    return project.state / "tui.json"
