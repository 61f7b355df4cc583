"""Finds the project: its folder and the files that belong to it."""
from __future__ import annotations

import hashlib
import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtui.key_folder import KeyFolder
from fedtui.roster import Client, Roster, read_roster
from poweranger.errors import UserError
from poweranger.files import make_private_folder

__all__ = ["Client", "Project", "Roster", "read_document"]

_SOCKET_BYTES = 107  # sun_path of a Unix socket holds 108, the last a NUL


@dataclass(frozen=True)
class Project:
    """A project folder; `root` is resolved, so that every way to it leads to the same daemon."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project in the folder `start`; without `start` the nearest one from the current folder upwards.

        Raises
        ------
        UserError
            When there is no `pyproject.toml` with `[tool.flwr.app]`.
        """
        try:
            here = Path.cwd() if start is None else Path(os.path.expanduser(start)).resolve()
        except OSError as error:
            raise UserError(f"the current folder is not there any more ({error.strerror}): go to another one, or use --project DIR with its full path") from None
        if start is not None:
            if not _is_project(here / "pyproject.toml"):
                raise UserError(f"{start} is no project folder: it has no pyproject.toml with [tool.flwr.app]; `fedtui init` makes one")
            return cls(here)
        for folder in (here, *here.parents):
            if _is_project(folder / "pyproject.toml"):
                return cls(folder)
        raise UserError(f"no project here: neither {here} nor a folder above it has a pyproject.toml with [tool.flwr.app]; use --project DIR, or make one with `fedtui init DIR`")

    @property
    def pyproject(self) -> Path:
        """The file with run configuration and roster."""
        return self.root / "pyproject.toml"

    @property
    def results(self) -> Path:
        """The folder that runs write."""
        return self.root / "results"

    @property
    def logs(self) -> Path:
        """The folder of the supervised processes' logs."""
        return self.results / "logs"

    @property
    def keys(self) -> KeyFolder:
        """The keys of a federation over several machines; there need be none."""
        return KeyFolder(self.root / "keys")

    @property
    def state(self) -> Path:
        """The daemon's own folder (0700), created when missing.

        Raises
        ------
        UserError
            When it cannot be made or belongs to another user.
        """
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", self.root.name).strip("-.")[:32] or "project"
        return _own_folder(_state_home() / "fedtui" / f"{readable}-{_digest(self.root)}")

    @property
    def socket(self) -> Path:
        """The daemon's HTTP socket."""
        return self._socket("daemon.sock")

    @property
    def notify_socket(self) -> Path:
        """The socket that supervised processes report to."""
        return self._socket("notify.sock")

    @property
    def lock(self) -> Path:
        """Held by the one daemon of this project."""
        return self.state / "lock"

    @property
    def processes_file(self) -> Path:
        """What the daemon must know again after it was killed."""
        return self.state / "processes.json"

    def python(self) -> str:
        """The interpreter that runs server and clients: this one."""
        return sys.executable

    def roster(self) -> Roster:
        """Read `[tool.fedtui]`.

        Raises
        ------
        UserError
            When the file does not parse, or a key is unknown or has a wrong value.
        """
        return read_roster(read_document(self.pyproject), self.root)

    def _socket(self, name: str) -> Path:
        """In the state folder; when that path is too long for a socket, in a short one.

        The home folder comes before `$XDG_RUNTIME_DIR`, which goes with the last login session: the daemon does not.
        """
        state = self.state
        short = Path(".fedtui", _digest(state))
        bases = [Path(base) / short for base in (_home(), os.environ.get("XDG_RUNTIME_DIR", "")) if os.path.isabs(base)]
        for folder in (state, *bases):
            if len(os.fsencode(folder / name)) <= _SOCKET_BYTES:
                return _own_folder(folder) / name
        raise UserError(f"{state / name} is too long for a socket, and so is one in {_home()}: set XDG_STATE_HOME to a shorter path")


def read_document(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    UserError
        When it is absent, unreadable, or does not parse: with line and column.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a TOMLDecodeError says line and column itself
        raise UserError(f"{path} is no valid TOML: {error}") from None


def _is_project(path: Path) -> bool:
    """Whether the file declares a Flower app; also one that does not parse just now, so that `ps` and `down` still work."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError:
        return False
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return re.search(r"^\s*\[tool\.flwr\.app[.\]]", text, re.MULTILINE) is not None
    flwr = document.get("tool", {}).get("flwr", {}) if isinstance(document.get("tool", {}), dict) else {}
    return isinstance(flwr, dict) and "app" in flwr


def _state_home() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):
        return Path(base)
    if not os.path.isabs(_home()):
        raise UserError("this user has no home folder (HOME is not set): set XDG_STATE_HOME to a folder of yours")
    return Path(_home()) / ".local" / "state"


def _home() -> str:
    """The home folder; "~" for a user who has none, as in a container that runs under a number."""
    return os.path.expanduser("~")


def _own_folder(path: Path) -> Path:
    """`path` as a folder that nobody else may enter; a `UserError` when it is another user's or cannot be made."""
    try:
        make_private_folder(path)
        owner = path.stat().st_uid
        if owner == os.getuid() and path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise UserError(f"{path} cannot be used ({error.strerror}): set XDG_STATE_HOME to a folder of yours") from None
    if owner != os.getuid():
        raise UserError(f"{path} belongs to another user (uid {owner}): set XDG_STATE_HOME to a folder of yours")
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
