"""Adds a client to the roster, or changes one: its name, its images, its environment."""
from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Button

from fedtui.roster import Client, check_client_name, check_env
from fedtui.tui.widgets.folder_browser import FolderBrowser, at
from fedtui.tui.widgets.form import Form, field, images
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp


class Wish(NamedTuple):
    """What was typed; `data_dir` is empty for synthetic images."""

    name: str
    data_dir: str
    env: dict[str, str]


class ClientForm(Form[Wish]):
    """Answers a `Wish`, or None. What cannot be is said while it is typed.

    Parameters
    ----------
    root : the project folder, from which a relative path starts.
    client : the client to change; None to add one.
    taken : names that the new one must not have; the first free one is suggested.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+o", "describe", "describe the images")]
    DEFAULT_CSS = "ClientForm > Vertical { height: 26; }"

    def __init__(self, root: Path, client: Client | None, taken: Collection[str]) -> None:
        super().__init__(f"Change {client.name}" if client else "Add a client", "change it" if client else "add it")
        self._root, self._client, self._taken = root, client, taken

    def fields(self) -> Iterable[Widget]:
        """A line each for name and variables, the browser between them; an existing client keeps its name: logs and runs know it by that."""
        client = self._client
        name = LineInput(client.name if client else self._free_name(), id="name")
        name.disabled = client is not None
        yield field("Name", name)
        yield images(FolderBrowser(self._root, typed_path(client.data_dir, self._root) if client and client.data_dir else ""))
        env = shlex.join(f"{name}={value}" for name, value in client.env.items()) if client else ""
        yield field("Environment", LineInput(env, "NAME=value NAME=value", id="env"))

    def buttons(self) -> Iterable[Button]:
        """One to look at the images."""
        yield Button("describe the images (ctrl+o)", id="describe", compact=True, disabled=True)

    def first(self) -> Widget:
        """The name of a new client, the images of another."""
        return self.query_one(FolderBrowser).query_one(LineInput) if self._client else self.query_one("#name")

    def ready(self) -> bool:
        """Whether the images have been counted."""
        return self.query_one(FolderBrowser).known

    def answer(self) -> Wish:
        """What is typed; what the folder lacks is said beside it."""
        name = self.query_one("#name", LineInput).value.strip()
        if self._client is None:
            check_client_name(name)
            if name in self._taken:
                raise UserError(f"there is a client {name} already: take another name")
        try:
            words = shlex.split(self.query_one("#env", LineInput).value)
        except ValueError as error:
            raise UserError(f"environment: {error}".lower()) from None
        pairs = [word.partition("=") for word in words]
        if wrong := [word for word, (_, equals, _) in zip(words, pairs, strict=True) if not equals]:
            raise UserError(f"environment: {wrong[0]!r} is no NAME=value")
        path = self.query_one(FolderBrowser).path
        return Wish(name, path.rstrip("/") or path[:1], check_env({key: value for key, _, value in pairs}, "environment:"))

    @on(FolderBrowser.Changed)
    def _offer_description(self) -> None:
        browser = self.query_one(FolderBrowser)
        self.query_one("#describe", Button).disabled = not (browser.path and browser.known)

    @on(Button.Pressed, "#describe")
    def action_describe(self) -> None:
        """Look at the images as the model will: what there is, what cannot be read, what looks the same."""
        from fedtui.tui.program import run_program

        if not self.query_one("#describe", Button).disabled:
            path, sheet = self.query_one(FolderBrowser).path, self._root / "results" / "contact_sheet.png"
            run_program(cast("FedApp", self.app), f"images in {path}", "poweranger.client.data_loader", [str(at(self._root, path)), "--out", str(sheet)])

    def _free_name(self) -> str:
        return next(name for number in range(1, len(self._taken) + 2) if (name := f"C{number}") not in self._taken)


def typed_path(data_dir: str, root: Path) -> str:
    """A client's folder as the form shows it: relative to the project when it lies in it."""
    path = Path(data_dir)
    return str(path.relative_to(root)) if path.is_relative_to(root) else os.fspath(path)
