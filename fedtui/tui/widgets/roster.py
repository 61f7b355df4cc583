"""The roster: where the server listens, and the clients with their images; add, change and remove them."""
from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from fedtui import config_edit
from fedtui.data_folder import ClassCounts, count
from fedtui.roster import Client, check_address
from fedtui.tui.actions import in_background
from fedtui.tui.dialogs import Prompt, confirm
from fedtui.tui.glyphs import MUTED, colour, glyph
from fedtui.tui.pane import Pane
from fedtui.tui.project_file import ProjectFile
from fedtui.tui.staleness import Staleness
from fedtui.tui.store import ACTIVE, Store
from fedtui.tui.widgets.class_counts import ClassCountsView
from fedtui.tui.widgets.client_form import ClientForm, Wish, typed_path
from fedtui.tui.widgets.folder_browser import SYNTHETIC, at
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.listing import Column, Listing, Row
from poweranger.errors import UserError

SERVER = "server"
COLUMNS = (Column("NAME", 20), Column("STATE", 12, 9), Column("IMAGES"), Column("ENVIRONMENT", 24, beyond=70))


class RosterPanel(Vertical):
    """The server's address, then a row a client; below them, where there is room, the images of the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "add client"),
        Binding("delete,backspace", "remove", "remove", key_display="del"),
    ]
    DEFAULT_CSS = """
    RosterPanel ClassCountsView { display: none; height: 14; border-top: solid $surface-lighten-2; }
    """

    class _Counted(Message):
        def __init__(self, path: str, counts: ClassCounts | UserError) -> None:
            super().__init__()
            self.path, self.counts = path, counts

    def __init__(self, store: Store, stale: Staleness, *, classes: str) -> None:
        super().__init__(classes=classes)
        self.store, self.stale = store, stale
        self.file = store.file or ProjectFile()
        self._steps: list[tuple[str, Callable[[], None]]] = []  # what was done, and what takes it back
        self._counts: dict[str, ClassCounts | UserError | None] = {}  # None while a folder is being looked through
        self.border_title = "Clients"

    def compose(self) -> ComposeResult:
        """The list and the counts."""
        yield Listing(COLUMNS, id="clients")
        yield ClassCountsView()

    def show(self, store: Store) -> None:
        """Follow file and processes."""
        if store.file is not None:
            self.file = store.file
        roster, listing = self.file.roster, self.query_one(Listing)
        if problem := self.file.error or self.file.roster_error:
            listing.empty = f"{problem}: mend it, it is read again at once"
            listing.put([])
            listing.refresh()
            entitle(self, "Clients")
            self._show_counts()
            return
        clients = roster.effective()
        rows = [Row(SERVER, (SERVER, self._state(SERVER), (f"listens on {roster.server_address}", "muted")))]
        for client in clients:
            images = typed_path(client.data_dir, store.project.root) if client.data_dir else "synthetic"
            environment = shlex.join(f"{name}={value}" for name, value in client.env.items())
            rows.append(Row(client.name, (client.name, self._state(client.name), (images, "" if client.data_dir else "muted"), environment)))
        listing.put(rows)
        later = [client.name for client in clients if self.stale.client_is_later(store, client.name)]
        notes = ["the roster is empty: these are made up (a adds yours)"] if not roster.clients else []
        notes += [f"{glyph('backoff')} {', '.join(later)}: counts from the next start"] if later else []
        entitle(self, "Clients", "  ".join(notes))
        self._show_counts()

    def _state(self, name: str) -> tuple[str, str]:
        process = self.store.process(name)
        state = self.store.pending.get(name) or (process["state"] if process else "stopped")
        return f"{glyph(state)} {state}", colour(state)

    def _client(self) -> Client | None:
        name = self.query_one(Listing).key
        return next((client for client in self.file.roster.effective() if client.name == name), None)

    # Editing

    def action_add(self) -> None:
        """Ask for a new client."""
        if self._pane.fed.actions.allowed():
            taken = {client.name for client in self.file.roster.clients}
            self.app.push_screen(ClientForm(self.store.project.root, None, taken), self._add)

    def _add(self, wish: Wish | None) -> None:
        if wish is not None:
            name = wish.name
            self._do(f"added {name}", lambda: self._write(wish), lambda: config_edit.remove_client(self.store.project, name), f"s on {name} in Overview (1) starts it")
            self.query_one(Listing).go(name)

    @on(Listing.Opened, "#clients")
    def action_edit(self) -> None:
        """Change the client under the cursor, or the server's address."""
        if not self._pane.fed.actions.allowed():
            return
        if self.query_one(Listing).key == SERVER:
            old = self.file.roster.server_address
            self.app.push_screen(Prompt("Server address", "host:port that the server listens on, and clients connect to", old, check_address), self._move_server)
        elif (client := self._client()) is None:
            return
        elif client not in self.file.roster.clients:
            self._pane.fed.say(f"{client.name} is made up", "warning", "a adds a client to the roster")
        else:
            self.app.push_screen(ClientForm(self.store.project.root, client, ()), lambda wish: self._change(client, wish))

    def _move_server(self, address: str | None) -> None:
        old, project = self.file.roster.server_address, self.store.project
        if address and address != old:
            self._do(
                f"the server's address is {address}", lambda: config_edit.set_server_address(project, address),
                lambda: config_edit.set_server_address(project, old), "it counts when server and clients are started again",
            )

    def _change(self, client: Client, wish: Wish | None) -> None:
        if wish is None:
            return
        project, name = self.store.project, client.name
        old_dir = typed_path(client.data_dir, project.root) if client.data_dir else ""

        def change(data_dir: str, env: dict[str, str], before: dict[str, str]) -> None:
            moved = data_dir if wish.data_dir != old_dir else None  # else it stays as the file spells it, such as ~/images
            config_edit.change_client(project, name, moved, {**dict.fromkeys(before), **env})

        self._do(
            f"changed {name}", lambda: change(wish.data_dir, wish.env, client.env), lambda: change(old_dir, client.env, wish.env),
            f"{name} goes by it when it is started again (r in Overview)" if name in self.store.active else "", changed=name,
        )

    def action_remove(self) -> None:
        """Take the client under the cursor out of the roster, after a question."""
        client, fed = self._client(), self._pane.fed
        if client is None or client not in self.file.roster.clients or not fed.actions.allowed():
            return
        process = self.store.process(client.name)
        if process is not None and process["state"] in ACTIVE:
            fed.say(f"{client.name} is {process['state']}", "warning", "stop it first (x in Overview)")
            return
        data_dir = typed_path(client.data_dir, self.store.project.root) if client.data_dir else ""
        back = Wish(client.name, data_dir, client.env)
        text = "It is taken out of the roster in pyproject.toml. Its images, its log and its results stay."
        confirm(
            fed, f"Remove {client.name}?", text, "remove",
            lambda: self._do(f"removed {client.name}", lambda: config_edit.remove_client(self.store.project, client.name), lambda: self._write(back), "z takes it back"),
        )  # fmt: skip

    def undo(self) -> None:
        """Take the last change of the roster back."""
        if not self._steps:
            self._pane.fed.say("nothing to undo in the roster")
        elif self._pane.fed.actions.allowed():
            what, back = self._steps.pop()
            in_background(self.app, back, lambda _: self._done(f"taken back: {what}", ""), self._failed)

    def _write(self, wish: Wish) -> None:
        config_edit.add_client(self.store.project, wish.name, wish.data_dir or None, wish.env)

    def _do(self, what: str, work: Callable[[], None], back: Callable[[], None], remedy: str, *, changed: str = "") -> None:
        def done(_: None) -> None:
            self._steps.append((what, back))
            if changed:
                self.stale.saved([f"client {changed}"])
            self._done(what, remedy)

        in_background(self.app, work, done, self._failed)

    def _done(self, what: str, remedy: str) -> None:
        self._pane.fed.say(what, remedy=remedy)
        self._pane.fed.look_again()

    def _failed(self, error: UserError) -> None:
        self._pane.fed.say(str(error), "error", "the roster is as it was")
        self._pane.fed.look_again()

    @property
    def _pane(self) -> Pane:
        return next(node for node in self.ancestors if isinstance(node, Pane))

    # Images of the client under the cursor

    @on(Listing.Moved, "#clients")
    def _show_counts(self) -> None:
        view, client = self.query_one(ClassCountsView), self._client()
        if not view.display:
            return
        if client is None or client.data_dir is None:
            view.say(SYNTHETIC if client else "")
            return
        path = client.data_dir
        if path not in self._counts:
            self._counts[path] = None
            threading.Thread(target=self._count, args=(path,), daemon=True).start()
        counts = self._counts[path]
        if isinstance(counts, ClassCounts):
            view.show(counts)
        else:
            view.say("counting…" if counts is None else str(counts), MUTED if counts is None else "$error")

    def _count(self, path: str) -> None:
        try:
            counts: ClassCounts | UserError = count(at(self.store.project.root, path))
        except UserError as error:
            counts = error
        self.post_message(self._Counted(path, counts))

    def on_roster_panel__counted(self, event: _Counted) -> None:
        """Show what was counted."""
        event.stop()
        self._counts[event.path] = event.counts
        self._show_counts()
