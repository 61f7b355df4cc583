"""Configuration: the run configuration and the roster, as they stand in `pyproject.toml`, to be edited in place."""
from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from fedtui.config_edit import set_values
from fedtui.tui.actions import in_background
from fedtui.tui.dialogs import listed
from fedtui.tui.draft import Draft
from fedtui.tui.pane import Pane
from fedtui.tui.project_file import ProjectFile
from fedtui.tui.staleness import Staleness, when
from fedtui.tui.store import Store
from fedtui.tui.widgets.roster import RosterPanel
from fedtui.tui.widgets.save_dialog import Change, SaveDialog
from fedtui.tui.widgets.settings import Settings, spell
from fedtui.tui.widgets.settings_panel import SettingsPanel
from poweranger.errors import UserError
from poweranger.run_config import BY_NAME, Value

SHORT, WIDE = 30, 150  # rows below which one of the two lists is folded, columns from which they stand side by side


class ConfigPane(Pane):
    """The run configuration and the clients; what is changed in the former is saved when its differences have been seen."""

    TITLE, KEY = "Config", "6"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w,ctrl+s", "save", "save"), Binding("z", "undo", "undo")]
    DEFAULT_CSS = """
    ConfigPane { layout: vertical; }
    ConfigPane SettingsPanel { height: 1fr; }
    ConfigPane RosterPanel { height: 9; }
    ConfigPane.-wide { layout: horizontal; }
    ConfigPane.-wide SettingsPanel { width: 2fr; }
    ConfigPane.-wide RosterPanel { width: 1fr; height: 1fr; }
    ConfigPane.-wide RosterPanel ClassCountsView { display: block; }
    ConfigPane.-short RosterPanel { height: 3; }
    ConfigPane.-short.-roster RosterPanel { height: 1fr; }
    ConfigPane.-short.-roster SettingsPanel { height: 3; }
    ConfigPane.-short.-roster SettingDetail { display: none; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.draft = Draft(store.file or ProjectFile())
        self.stale = Staleness()
        self._own_save = False  # the file's next change is ours

    def compose(self) -> ComposeResult:
        """Two panels."""
        yield SettingsPanel(self.store, self.draft, self.stale, classes="panel")
        yield RosterPanel(self.store, self.stale, classes="panel")

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Follow the file, the processes and the run."""
        if "file" in changed and store.file is not None and store.file is not self.draft.file:
            if self.draft.changes and not self._own_save and self.draft.file.fingerprint:
                self.fed.say("pyproject.toml was changed by somebody else", "warning", "your changes are kept: look at them again, then save")
            self.draft.take(store.file)
            self._own_save = False
        if changed & {"file", "processes", "runs", "progress"}:
            self.query_one(SettingsPanel).show()
            self.query_one(RosterPanel).show(store)

    def state(self) -> dict[str, Any]:
        """Where the cursor was, the changes that are not saved, and when those that are were."""
        panel = self.query_one(SettingsPanel)
        return {"key": panel.key, "filter": panel.needle, "changes": self.draft.changes, "saved": self.stale.times}

    def restore(self, state: dict[str, Any]) -> None:
        """Take it back."""
        panel = self.query_one(SettingsPanel)
        panel.needle = str(state.get("filter") or "")
        panel.go(str(state.get("key")))
        self.stale.times.update({str(name): float(time) for name, time in state.get("saved", {}).items()})
        for name, value in state.get("changes", {}).items():
            with contextlib.suppress(UserError, KeyError):  # it is not allowed any more, or there is no such key
                self.draft.set(name, BY_NAME[name].check(value))

    def take_focus(self) -> None:
        """The keys come first."""
        self.query_one(Settings).focus(scroll_visible=False)

    def on_resize(self, event: events.Resize) -> None:
        """Side by side, one below the other, or one of the two folded."""
        self.set_class(event.size.width >= WIDE, "-wide")
        self.set_class(event.size.width < WIDE and event.size.height < SHORT, "-short")

    def on_descendant_focus(self) -> None:
        """Unfold the list that has the focus."""
        self.set_class(self.query_one(RosterPanel).has_focus_within, "-roster")

    def action_edit(self) -> None:
        """Edit what is under the cursor."""
        if self.query_one(RosterPanel).has_focus_within:
            self.query_one(RosterPanel).action_edit()
        else:
            self.take_focus()
            self.query_one(SettingsPanel).action_edit()

    def action_add_client(self) -> None:
        """Add a client."""
        self.query_one(RosterPanel).action_add()

    def action_undo(self) -> None:
        """Take the last step back, in the list that has the focus."""
        if self.query_one(RosterPanel).has_focus_within:
            self.query_one(RosterPanel).undo()
        elif name := self.draft.undo():
            self.query_one(SettingsPanel).go(name)
            self.query_one(SettingsPanel).show()
        else:
            self.fed.say("nothing to undo")

    def action_save(self) -> None:
        """Show what will be changed, then change it."""
        if not self.fed.actions.allowed():
            return
        if not self.draft.changes:
            self.fed.say("nothing has been changed")
            return
        file, changes = self.draft.file, dict(self.draft.changes)

        def act(answer: str | None) -> None:
            if answer == "discard":
                self.draft.drop()
                self.query_one(SettingsPanel).show()
            elif answer == "save":
                self._own_save = True  # already now: the file may be looked at before it is said that it was saved
                in_background(self.app, lambda: set_values(self.store.project, changes, file.fingerprint), self._saved, self._failed)

        self.app.push_screen(SaveDialog("pyproject.toml", [self._change(name) for name in changes]), act)

    def _change(self, name: str) -> Change:
        entry = self.draft.file.entries[name]
        before = f"{name} = {_toml(entry.value)}" if entry.in_file else ""
        return Change(entry.wrong or before, f"{name} = {_toml(self.draft.changes[name])}", when(BY_NAME[name]))

    def _saved(self, names: list[str]) -> None:
        self._own_save &= bool(names)
        self.stale.saved(names)
        waiting = self.stale.readers(self.store, names)
        remedy = f"{listed(waiting)} go by the old values until they are started again" if waiting else ""
        self.fed.say(f"saved {listed(names)}" if names else "the file has these values already", remedy=remedy)
        self.fed.look_again()

    def _failed(self, error: UserError) -> None:
        self._own_save = False
        self.fed.say(str(error), "error", "nothing was saved; your changes are kept")
        self.fed.look_again()


def _toml(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else spell(value)
