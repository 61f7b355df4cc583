"""Adds a client to the roster, or changes one: its name, its images, its environment."""
from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from fedtui.cleaning import clean
from fedtui.roster import Client, check_client_name, check_env
from fedtui.tui.widgets.folder_browser import FolderBrowser, at
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp


class Wish(NamedTuple):
    """What was typed; `data_dir` is empty for synthetic images."""

    name: str
    data_dir: str
    env: dict[str, str]


class ClientForm(ModalScreen[Wish | None]):
    """Answers a `Wish`, or None. What cannot be is said while it is typed.

    Parameters
    ----------
    root : the project folder, from which a relative path starts.
    client : the client to change; None to add one.
    taken : names that the new one must not have; the first free one is suggested.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "cancel"),
        Binding("ctrl+s", "accept", "accept"),
        Binding("ctrl+o", "describe", "describe the images"),
        Binding("tab", "app.focus_next", "next field"),
        Binding("shift+tab", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = """
    ClientForm { align: center middle; background: $background 60%; }
    ClientForm > Vertical { width: 96; max-width: 98%; height: 26; max-height: 98%; border: round $accent; background: $surface; padding: 0 1; }
    ClientForm .field { height: 1; margin-top: 1; }
    ClientForm .field Static { width: 12; color: $foreground-muted; }
    ClientForm .field LineInput { width: 1fr; }
    ClientForm .images { height: 1fr; margin-top: 1; }
    ClientForm .images > Static { width: 12; color: $foreground-muted; }
    ClientForm #wrong { height: 2; color: $error; margin-top: 1; }
    ClientForm #buttons { height: 1; }
    ClientForm Button { margin-right: 2; min-width: 8; }
    """

    def __init__(self, root: Path, client: Client | None, taken: Collection[str]) -> None:
        super().__init__()
        self._root, self._client, self._taken = root, client, taken
        number = next(number for number in range(1, len(taken) + 2) if f"C{number}" not in taken)
        self._suggested = client.name if client else f"C{number}"

    def compose(self) -> ComposeResult:
        """A line each for name and variables, the browser between them."""
        client = self._client
        with Vertical() as box:
            box.border_title = f"Change {client.name}" if client else "Add a client"
            with Horizontal(classes="field"):
                yield Static("Name")
                yield LineInput(self._suggested, id="name")
            with Horizontal(classes="images"):
                yield Static("Images")
                yield FolderBrowser(self._root, typed_path(client.data_dir, self._root) if client and client.data_dir else "")
            with Horizontal(classes="field"):
                yield Static("Environment")
                yield LineInput(shlex.join(f"{name}={value}" for name, value in client.env.items()) if client else "", "NAME=value NAME=value", id="env")
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button("change it (ctrl+s)" if client else "add it (ctrl+s)", id="accept", variant="primary", compact=True)
                yield Button("describe the images (ctrl+o)", id="describe", compact=True)
                yield Button("cancel (esc)", id="cancel", compact=True)

    def on_mount(self) -> None:
        """An existing client keeps its name: logs and runs know it by that."""
        self.query_one("#name").disabled = self._client is not None
        self.query_one(FolderBrowser).query_one(LineInput).focus() if self._client else self.query_one("#name").focus()
        self._check()

    @on(LineInput.Changed)
    @on(FolderBrowser.Changed)
    def _check(self) -> None:
        try:
            self._wish()
            wrong = ""
        except UserError as error:
            wrong = clean(str(error))
        self.query_one("#wrong", Static).update(wrong)
        browser = self.query_one(FolderBrowser)
        self.query_one("#accept", Button).disabled = bool(wrong) or not browser.known
        self.query_one("#describe", Button).disabled = not (browser.path and browser.known)

    @on(LineInput.Cancelled)
    def _cancelled(self) -> None:
        self.dismiss(None)

    @on(LineInput.Submitted)
    def _submitted(self) -> None:
        self.action_accept()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Accept or cancel."""
        if event.button.id == "accept":
            self.action_accept()
        elif event.button.id == "describe":
            self.action_describe()
        else:
            self.dismiss(None)

    def action_describe(self) -> None:
        """Look at the images as the model will: what there is, what cannot be read, what looks the same."""
        from fedtui.tui.program import run_program

        if not self.query_one("#describe", Button).disabled:
            path, sheet = self.query_one(FolderBrowser).path, self._root / "results" / "contact_sheet.png"
            run_program(cast("FedApp", self.app), f"images in {path}", "poweranger.client.data_loader", [str(at(self._root, path)), "--out", str(sheet)])

    def action_accept(self) -> None:
        """Answer, when nothing is wrong and the images have been counted."""
        if not self.query_one("#accept", Button).disabled:
            self.dismiss(self._wish())

    def _wish(self) -> Wish:
        """What is typed.

        Raises
        ------
        UserError
            When it cannot be; what the folder lacks is said beside it.
        """
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


def typed_path(data_dir: str, root: Path) -> str:
    """A client's folder as the form shows it: relative to the project when it lies in it."""
    path = Path(data_dir)
    return str(path.relative_to(root)) if path.is_relative_to(root) else os.fspath(path)
