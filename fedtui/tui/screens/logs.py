"""Place 4: what the processes print, one or several of them merged."""
from __future__ import annotations

import datetime
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from fedtui.cleaning import clean
from fedtui.processes import CLIENT_HOST
from fedtui.tui import terminal
from fedtui.tui.glyphs import glyph
from fedtui.tui.log_reader import Choice
from fedtui.tui.pane import Pane
from fedtui.tui.store import Store
from fedtui.tui.widgets.failure_card import FailureCard
from fedtui.tui.widgets.line_input import LineInput
from fedtui.tui.widgets.log_picker import LogPicker
from fedtui.tui.widgets.log_view import LogView
from poweranger.errors import UserError

_ASKED = {
    "search": ("/", "go to lines that match this regular expression; small letters find both cases"),
    "include": ("only ", "show only lines that match this regular expression; empty shows all"),
    "exclude": ("without ", "show no lines that match this regular expression; empty hides none"),
}


class LogsPane(Pane):
    """See the module."""

    TITLE, KEY, ABOUT_PROCESS = "Logs", "4", True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask('search')", "search", key_display="/"),
        Binding("ampersand", "ask('include')", "only", key_display="&"),
        Binding("exclamation_mark", "ask('exclude')", "without", key_display="!"),
        Binding("left_square_bracket", "step(-1)", "previous log", show=False, key_display="["),
        Binding("right_square_bracket", "step(1)", "next log", show=False, key_display="]"),
        Binding("y", "copy", "copy"),
        Binding("o", "pager", "pager"),
        Binding("c", "card", "why it failed", show=False),
        Binding("tab,shift+tab", "other", "which logs", show=False),
        Binding("escape", "clear", "back", show=False),
    ]
    DEFAULT_CSS = """
    LogsPane { layout: vertical; }
    LogsPane #log-state { height: 1; background: $surface; color: $text-muted; }
    LogsPane LineInput { display: none; padding: 0 1; }
    LogsPane LineInput.-shown { display: block; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._names: tuple[str, ...] = ()
        self._selected = ""  # the store's, when it was last looked at
        self._asked = "search"
        self._card = True
        self._found: list[str] = []

    def compose(self) -> ComposeResult:
        """Which logs, why one failed, the log, what it stands at, a line to type in."""
        yield LogPicker()
        yield FailureCard()
        yield LogView()
        yield Static(id="log-state", markup=False)
        yield LineInput()

    @property
    def view(self) -> LogView:
        """The log."""
        return self.query_one(LogView)

    def take_focus(self) -> None:
        """The keys are for the log."""
        self.view.focus(scroll_visible=False)

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Follow the selection, and say what has become of the processes."""
        if changed == store.ALL or not self._found:
            self._found = sorted(clean(path.stem) for path in store.project.logs.glob("*.log"))
        if store.selected != self._selected:
            self._selected = store.selected
            if store.selected not in (*self._names, "", CLIENT_HOST):  # these have no log
                self._choose((store.selected,))
        states = {process["name"]: process["state"] for process in store.processes}
        states |= {name: "" for name in self._found if name not in states}
        self.query_one(LogPicker).show(list(states.items()), self._names)
        self._show_card()
        self._show_state()

    def state(self) -> dict[str, Any]:
        """Which logs, filters, what is searched, and how they are shown."""
        view, choice = self.view, self.view.reader.choice
        return {
            "names": list(self._names), "include": choice.include, "exclude": choice.exclude, "search": view.search.pattern,
            "follow": view.follow, "wrap": view.wrap, "times": view.times, "card": self._card,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take that back."""
        view = self.view
        names = tuple(clean(str(name)) for name in state.get("names", ()))
        view.wrap, view.times, self._card = bool(state.get("wrap")), bool(state.get("times", True)), bool(state.get("card", True))
        if names and self.store.selected in names:
            self._selected = self.store.selected
            try:
                self._choose(names, str(state.get("include", "")), str(state.get("exclude", "")))
                view.search_for(str(state.get("search", "")))
                view.search = view.search.elsewhere()
            except UserError:
                self._choose(names, "", "")
            view.follow = bool(state.get("follow", True))

    def open_at(self, name: str, moment: datetime.datetime) -> None:
        """Show the log of a process from a moment (local time) on."""
        self._choose((name,), "", "")
        self.view.show_moment(moment.isoformat(" ", "seconds"))

    # Which lines

    def on_log_picker_chosen(self, event: LogPicker.Chosen) -> None:
        """Show other logs."""
        self._choose(event.names)
        if self.store.selected not in event.names:  # what keys act on is what is in sight
            self.store.selected = self._selected = event.names[0]
        self.show(self.store, frozenset({"processes"}))
        self.refresh_bindings()

    def action_step(self, step: int) -> None:
        """The next log, or the one before."""
        self.query_one(LogPicker).step(step)

    def action_other(self) -> None:
        """From the log to the choice of logs, and back."""
        picker = self.query_one(LogPicker)
        (self.view if picker.has_focus else picker).focus(scroll_visible=False)

    def _choose(self, names: tuple[str, ...], include: str | None = None, exclude: str | None = None) -> None:
        """Show these logs; the filters stay unless others are given. Raises `UserError`."""
        choice = self.view.reader.choice
        logs = self.store.project.logs
        self.view.choose(Choice(
            {name: logs / f"{name}.log" for name in names},
            choice.include if include is None else include, choice.exclude if exclude is None else exclude,
        ))  # fmt: skip
        self._names = names

    def action_ask(self, what: str) -> None:
        """Open the line to type in."""
        choice = self.view.reader.choice
        line = self.query_one(LineInput)
        self._asked = what
        line.value = {"search": "", "include": choice.include, "exclude": choice.exclude}[what]
        line.placeholder = "".join(_ASKED[what])
        line.remove_class("-wrong")
        line.add_class("-shown")
        line.cursor_position = len(line.value)
        line.focus(scroll_visible=False)

    def on_input_submitted(self, event: LineInput.Submitted) -> None:
        """Search, or filter; what is no regular expression stays to be put right."""
        event.stop()
        try:
            if self._asked == "search":
                self.view.search_for(event.value)
            else:
                self._choose(self._names, **{self._asked: event.value})
        except UserError as error:
            self.fed.say(str(error), "error")
            self.query_one(LineInput).add_class("-wrong")
            return
        self._close_line()

    def on_line_input_cancelled(self) -> None:
        """Leave things as they are."""
        self._close_line()

    def _close_line(self) -> None:
        self.query_one(LineInput).remove_class("-shown")
        self.take_focus()

    def action_clear(self) -> None:
        """Step by step: no selection, no search, no filter."""
        view, choice = self.view, self.view.reader.choice
        if view.text_selection is not None:
            view.unmark()
        elif view.search.pattern:
            view.search_for("")
        elif choice.include or choice.exclude:
            self._choose(self._names, "", "")
        else:
            self.take_focus()

    # What to do with them

    def action_copy(self) -> None:
        """Copy the selected lines."""
        if text := self.screen.get_selected_text():
            self.fed.copy_to_clipboard(text)
            self.view.unmark()
        else:
            self.fed.say("nothing is selected", "warning", "v selects lines with the arrow keys, the mouse selects with its button held")

    def action_pager(self) -> None:
        """Open the log in $PAGER."""
        if len(self._names) != 1:
            self.fed.say("the pager shows one log", "warning", "choose one with [ or ]")
            return
        path = self.store.project.logs / f"{self._names[0]}.log"
        try:
            if not path.exists():
                raise UserError(f"{self._names[0]} has no log yet")
            terminal.page(self.app, path)
        except UserError as error:
            self.fed.say(str(error), "error")

    def action_card(self) -> None:
        """Show or hide why it failed."""
        self._card = not self._card
        self._show_card()

    # What is said about them

    def on_log_page_moved(self, event: LogView.Moved) -> None:
        """Say where it stands."""
        event.stop()
        self._show_state()

    def on_resize(self) -> None:
        """Other parts of the failure card fit; after the layout that is under way, which would leave it as high as it was."""
        self.call_after_refresh(self._show_card)

    def _show_card(self) -> None:
        failed = next((name for name in sorted(self._names, key=lambda name: name != self.store.selected) if name in self.store.failures), None)
        card = self.store.failures.get(failed) if failed and self._card else None
        self.query_one(FailureCard).show(self.store.process(failed) if failed else None, card, max((self.size.height - 12) // 4, 0))

    def _show_state(self) -> None:
        content = Content.assemble(*self._parts())
        line = self.query_one("#log-state", Static)
        if content != line.content:
            line.update(content, layout=False)

    def _parts(self) -> list[tuple[str, str]]:
        view, reader, rows = self.view, self.view.reader, self.view.reader.rows
        count = rows.end - rows.first if rows else 0
        parts = [(f" {glyph('running')} following", "$text-success") if view.follow else (f" {glyph('stopped')} {view.place}", "$text-warning")]
        parts.append((f"  {count:,} {'line' if count == 1 else 'lines'}" + (f" of {len(self._names)} logs" if len(self._names) > 1 else ""), ""))
        if reader.busy:
            parts.append((f"  {reader.busy}", "$text-accent"))
        if problem := reader.unreadable or reader.problem:
            parts.append((f"  {glyph('error')} {problem}", "bold $text-error"))
        if view.marking:
            parts.append(("  selecting: y copies", "bold $text-accent"))
        if view.search.pattern:
            over = f", {view.search.over}" if view.search.over not in ("", "no match") else ""
            parts.append((f"  /{view.search.pattern} {view.search.count(reader.search)}{over}", "bold"))
        if reader.choice.include:
            parts.append((f"  only {reader.choice.include}", "$text-accent"))
        if reader.choice.exclude:
            parts.append((f"  without {reader.choice.exclude}", "$text-accent"))
        return parts
