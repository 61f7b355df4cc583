"""Run configuration and roster as they stand in `pyproject.toml`, wrong values included, so that they can be seen and mended."""
from __future__ import annotations

from dataclasses import dataclass, field

from fedtui.cleaning import clean
from fedtui.config_edit import CONFIG
from fedtui.project import Project, read_document
from fedtui.pyproject_file import fingerprint
from fedtui.roster import Roster, read_roster
from poweranger.errors import UserError
from poweranger.run_config import BY_NAME, KEYS, Key, Value


@dataclass(frozen=True)
class Entry:
    """A key of the run configuration.

    Attributes
    ----------
    value : as the file has it, if that is allowed, else the default.
    in_file : whether the file sets it.
    wrong : what is wrong with the file's value; empty when nothing is.
    """

    key: Key
    value: Value
    in_file: bool = False
    wrong: str = ""


@dataclass(frozen=True)
class ProjectFile:
    """What the file holds.

    Attributes
    ----------
    fingerprint : tells this content from another; see `pyproject_file.edit`.
    unknown : names in the run configuration that are no keys.
    error : why the file cannot be read at all.
    roster_error : why its roster cannot; the roster is empty then.
    """

    fingerprint: str = ""
    entries: dict[str, Entry] = field(default_factory=lambda: {key.name: Entry(key, key.default) for key in KEYS})
    unknown: tuple[str, ...] = ()
    roster: Roster = field(default_factory=Roster)
    error: str = ""
    roster_error: str = ""


def read(project: Project) -> ProjectFile:
    """Read the file of `project`. Nothing in it raises."""
    try:
        mark = fingerprint(project)  # before it is read: a change in between makes an edit be refused, not lost
        document = read_document(project.pyproject)
    except UserError as error:
        return ProjectFile(error=clean(str(error)))
    table: object = document
    for name in CONFIG:
        table = table.get(name) if isinstance(table, dict) else None
    values = table if isinstance(table, dict) else {}
    entries = {key.name: _entry(key, values) for key in KEYS}
    unknown = tuple(clean(name) for name in values if name not in BY_NAME)
    try:
        return ProjectFile(mark, entries, unknown, read_roster(document, project.root))
    except UserError as error:
        return ProjectFile(mark, entries, unknown, roster_error=clean(str(error)))


def _entry(key: Key, values: dict[str, object]) -> Entry:
    if key.name not in values:
        return Entry(key, key.default)
    try:
        return Entry(key, key.check(values[key.name]), in_file=True)
    except UserError as error:
        return Entry(key, key.default, in_file=True, wrong=clean(str(error)))
