"""The application: composes the places, binds keys, passes on what the background thread has seen."""
from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.filter import LineFilter
from textual.screen import Screen

from fedtui.cleaning import clean
from fedtui.project import Project
from fedtui.tui import saved, terminal, themes
from fedtui.tui.actions import Actions
from fedtui.tui.glyphs import Ascii
from fedtui.tui.happenings import Seen, what_happened
from fedtui.tui.pane import Pane
from fedtui.tui.store import Looker, News, Note, Store
from fedtui.tui.typing_ahead import TypingAhead
from fedtui.tui.watch import Watch
from fedtui.tui.widgets.key_bar import KeyBar
from fedtui.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from fedtui.tui.program import Program

PLACES = {"overview": "Overview", "metrics": "Metrics", "rounds": "Rounds", "logs": "Logs", "memory": "Memory", "config": "Config", "runs": "Runs"}
SECONDS_SHOWN = {"information": 4.0, "warning": 8.0, "error": 12.0}


class FedApp(TypingAhead):
    """The interface of one project.

    Parameters
    ----------
    read_only : refuse everything that starts, stops or changes something.
    ascii : draw with ASCII only.
    look : what gives the news once a second, in a thread; None when a test gives them by `show_news`.
    """

    TITLE = "fedtui"
    CSS_PATH = "fedtui.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"go('{place}')", title, show=False) for number, (place, title) in enumerate(PLACES.items(), 1)),
        Binding("s", "act('start')", "start"),
        Binding("x", "act('stop')", "stop"),
        Binding("r", "act('restart')", "restart"),
        Binding("X", "act('kill')", "kill"),
        Binding("l", "go('logs')", "logs"),
        Binding("u", "up", "all up"),
        Binding("D", "down", "all down"),
        Binding("a", "add_client", "add client"),
        Binding("e", "edit", "edit"),
        Binding("m", "messages", "messages", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("colon", "command_palette", "all actions", key_display=":"),
        Binding("q", "leave", "quit"),
        Binding("escape", "back", "back", show=False),
        Binding("ctrl+c", "copy_or_leave", "copy or quit", show=False, priority=True),
        Binding("ctrl+q", "leave", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "suspend", show=False, priority=True),
    ]

    def __init__(
        self, project: Project, *, read_only: bool = False, ascii: bool = False, look: Callable[..., News] | None = None,
    ) -> None:
        self._ascii_filter = Ascii(ascii)
        super().__init__()
        for theme in themes.THEMES:
            self.register_theme(theme)
        self.theme = themes.DARK.name
        self.ascii = ascii
        self._going = asyncio.Lock()
        self.animation_level = "none"
        self.store = Store(project, read_only=read_only)
        self.actions = Actions(self)
        self.program: Program | None = None  # the last one that was run, such as an evaluation
        self.goes_on: list[str] = []  # without the interface, once that has been left
        self.place = ""
        self.panes: dict[str, Pane] = {}
        self._saved = saved.load(project)
        self._watch = Watch(self, lambda: look(self.store.wanted()), self.show_news) if look is not None else None
        self._top = TopBar({name: f"{key} {self.places[name]}" for key, name in enumerate(PLACES, 1) if name in self.places})
        self.set_class(ascii, "-ascii")

    # What there is to see

    @functools.cached_property
    def places(self) -> dict[str, str]:
        """The places there are, by name with their titles."""
        return {name: title for name, title in PLACES.items() if importlib.util.find_spec(f"fedtui.tui.screens.{name}")}

    @property
    def pane(self) -> Pane | None:
        """The place that is visible."""
        return self.panes.get(self.place)

    def compose(self) -> ComposeResult:
        """A line of places, the place itself, a line of keys."""
        yield self._top
        yield Container(id="place")
        yield KeyBar()

    def get_line_filters(self) -> list[LineFilter]:
        """Textual's own filters, and ours."""
        return [*super().get_line_filters(), self._ascii_filter] if self.ascii else list(super().get_line_filters())

    def get_key_display(self, binding: Binding) -> str:
        """Keys by their names, not by signs that few fonts have."""
        return binding.key_display or {"enter": "enter", "space": "space", "escape": "esc"}.get(binding.key) or super().get_key_display(binding)

    def on_unmount(self) -> None:
        """However it ends: look no more, and leave no program of ours behind."""
        if self._watch is not None:
            self._watch.end()
        if self.program is not None:
            self.program.end()

    async def on_mount(self) -> None:
        """Go where the user was last; only then look."""
        if (theme := self._saved.get("theme")) in self.available_themes:
            self.theme = theme
        self.store.selected = self._saved.get("selected", self.store.selected)
        self.store.viewed, self.store.picked = self._saved.get("viewed"), set(map(str, self._saved.get("picked", ())))
        if not self.is_headless:
            terminal.leave_on_signals(self, self.remember)
        self.call_after_refresh(self._begin)  # the frame is painted first: a place takes a tenth of a second to make

    async def _begin(self) -> None:
        place = self._saved.get("place")
        if not self.panes:  # else a key was faster
            await self.action_go(place if place in self.places else next(iter(self.places)))
        if self._watch is not None:
            self.call_after_refresh(self._watch.start)

    def show_news(self, news: News) -> None:
        """Take over what was seen, and let the visible place show it."""
        before = Seen.of(self.store)
        changed = self.store.take(news)
        for severity, text, remedy in what_happened(before, self.store):
            self.say(text, severity, remedy)
        self._refresh_place(changed)

    def _refresh_place(self, changed: Iterable[str]) -> None:
        if self.pane is None or not self.is_running:  # no place yet, or none any more
            return
        with self.batch_update():
            self._top.show(self.store, self.place)
            self.pane.show(self.store, frozenset(changed))
        if changed:
            self.screen_stack[0].refresh_bindings()

    def look_again(self) -> None:
        """Look at once."""
        if self._watch is not None:
            self._watch.look_again()

    def expect(self, name: str, doing: str | None) -> None:
        """Show at once what has been asked of a process; None when that is done."""
        self.store.pending.pop(name, None)
        if doing is not None:
            self.store.pending[name] = doing
        self._refresh_place({"processes"})
        self.look_again()

    def say(self, text: str, severity: str = "information", remedy: str = "") -> None:
        """Tell the user; it stays readable in the history of messages (`m`)."""
        note = Note(time.time(), severity, clean(text), clean(remedy))
        self.store.notes.append(note)
        body = f"{note.text}\n→ {note.remedy}" if note.remedy else note.text
        self.notify(body, severity=cast(Any, severity), timeout=SECONDS_SHOWN.get(severity, 4.0), markup=False)
        self._refresh_place({"notes"})

    # Going from place to place

    async def action_go(self, place: str) -> None:
        """Show a place; it is made when it is first asked for."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        async with self._going:  # one at a time: a key may come while a place is being made
            if place in self.places and place != self.place:
                await self._go(place)

    async def _go(self, place: str) -> None:
        old = self.pane
        if place not in self.panes:
            module = importlib.import_module(f"fedtui.tui.screens.{place}")
            pane: Pane = getattr(module, f"{place.capitalize()}Pane")(self.store)
            pane.display = False  # not beside the old one
            self.panes[place] = pane
            await self.screen_stack[0].query_one("#place").mount(pane)
            self._give_back(place, pane)
        self.place = place
        with self.batch_update():
            if old is not None:
                old.display = False
            self.panes[place].display = True
            self._refresh_place(Store.ALL)
            self.panes[place].take_focus()
        self.remember()

    def _give_back(self, place: str, pane: Pane) -> None:
        """Let a place be as it was left; a state it cannot read is as good as none."""
        state = self._saved.get("panes", {}).get(place)
        if isinstance(state, dict):
            try:
                pane.restore(state)
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                self.log(f"the saved state of {place} is of no use: {error}")

    def remember(self) -> None:
        """Save where the user is, to be found again; one who only looks on leaves no trace."""
        if self.store.read_only:
            return
        panes = dict(self._saved.get("panes", {})) | {name: pane.state() for name, pane in self.panes.items() if pane.is_mounted}
        store = self.store
        seen = {"selected": store.selected, "viewed": store.viewed, "picked": sorted(store.picked)}
        self._saved = {"place": self.place, "theme": self.theme, **seen, "panes": panes}
        saved.save(self.store.project, self._saved)

    async def action_back(self) -> None:
        """Leave what is open over the place; never the interface."""
        if len(self.screen_stack) > 1:
            self.pop_screen()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing here are not offered."""
        if action == "act":
            return self.pane is not None and self.pane.ABOUT_PROCESS and self._can(str(parameters[0]))
        if action == "down":
            return bool(self.store.going_on)
        if action == "go":
            return parameters[0] in self.places and (parameters[0] != "logs" or self.place != "logs")
        if action in ("add_client", "edit"):
            return "config" in self.places
        return True

    def targets(self) -> list[str]:
        """The processes that actions are about: those marked in the visible place, else the selected one."""
        marked = getattr(self.pane, "marked", None)
        return list(marked) if marked else [self.store.selected] if self.store.process() else []

    def _can(self, action: str) -> bool:
        processes = [self.store.process(name) for name in self.targets()]
        runs = {bool(process and process["state"] in ("starting", "ready", "running", "stopping", "backoff", "held")) for process in processes}
        return False in runs if action == "start" else True in runs

    def action_act(self, action: str) -> None:
        """Do something to the selected processes; killing asks first."""
        if action == "kill":
            self.kill(self.targets())
        else:
            self.actions.act(self.targets(), action)

    def kill(self, names: list[str]) -> None:
        """Kill processes, after a question."""
        if self.actions.allowed():
            from fedtui.tui.dialogs import confirm, listed

            consequence = "The run ends, and can be resumed from its last complete round." if "server" in names else "The round goes on without it."
            confirm(
                self, f"Kill {listed(names)}?", f"It ends at once (SIGKILL), without saving. {consequence}",
                "kill", lambda: self.actions.act(names, "kill"),
            )

    def action_up(self) -> None:
        """Start the server and the roster's clients."""
        self.actions.up()

    def action_down(self) -> None:
        """Stop everything, after a question."""
        if self.actions.allowed():
            from fedtui.tui.dialogs import confirm, listed

            confirm(
                self, "Stop everything?", f"{listed(self.store.going_on)}: the clients are stopped first, then the server. A run can be resumed later.",
                "stop all", self.actions.down,
            )

    async def action_add_client(self) -> None:
        """Add a client to the roster, where the roster is edited."""
        await self._in_config("add_client")

    async def action_edit(self) -> None:
        """Edit the run configuration and the roster."""
        await self._in_config("edit")

    async def _in_config(self, action: str) -> None:
        await self.action_go("config")
        if self.pane is not None and hasattr(self.pane, f"action_{action}"):
            await self.run_action(action, default_namespace=self.pane)

    def action_help(self) -> None:
        """Show every key that works here."""
        from fedtui.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen.active_bindings, self.places.get(self.place, "")))

    def action_messages(self) -> None:
        """Show all messages so far."""
        from fedtui.tui.screens.help import MessagesScreen

        self.push_screen(MessagesScreen(list(self.store.notes)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action, for the palette."""
        from fedtui.tui.commands import commands

        return (SystemCommand(title, help, callback) for title, help, callback in commands(self, screen))

    # Leaving

    def action_copy_or_leave(self) -> None:
        """Copy the selected text, else ask whether to quit."""
        if text := self.screen.get_selected_text():
            self.copy_to_clipboard(text)
            self.screen.clear_selection()
        else:
            self.action_leave()

    def copy_to_clipboard(self, text: str) -> None:
        """Copy through the terminal, also inside tmux and screen; what is too long for that goes to a file."""
        self._clipboard = text
        if terminal.too_long_to_copy(text):
            path = saved.save_copy(self.store.project, text)
            self.say(f"too long for the terminal's clipboard: it is in {path}")
            return
        if self._driver is not None:
            self._driver.write(terminal.clipboard_sequence(text))
            terminal.give_to_tmux(text)
        self.say(f"copied {len(text)} characters")

    def action_leave(self) -> None:
        """Quit; with processes that would go on ask what shall become of them."""
        from fedtui.tui.dialogs import ask_to_leave

        if self.store.going_on:
            ask_to_leave(self)
        else:
            self.leave()

    def leave(self, *, stopped: bool = False) -> None:
        """Close the interface. What runs goes on, unless all has been `stopped` for it."""
        self.goes_on = [] if stopped else self.store.going_on
        self.remember()
        self.exit(0)


def open_interface(project: Project, *, read_only: bool = False, mouse: bool = True, ascii: bool = False) -> int:
    """Open the interface in this terminal; its exit code.

    Raises
    ------
    UserError
        When there is no terminal, or none that a full-screen program can use.
    """
    terminal.require_usable_terminal()
    terminal.prepare()
    project.state  # noqa: B018  # refuses a folder that cannot be used, before the screen is taken
    app = FedApp(project, read_only=read_only, ascii=ascii or not terminal.speaks_utf8(), look=Looker(project).look)
    app.run(mouse=mouse)
    code = app.return_code or 0
    if app.goes_on:
        from fedtui.tui.dialogs import listed

        go_on = "goes on" if len(app.goes_on) == 1 else "go on"
        print(f"fedtui: {listed(app.goes_on)} {go_on}; `fedtui` comes back, `fedtui down` stops everything", file=sys.stderr)
    return code
