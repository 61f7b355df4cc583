"""The run configuration, edited in place: nothing is saved here, changes are kept in a draft."""
from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from fedtui.cleaning import clean
from fedtui.tui.draft import Draft
from fedtui.tui.glyphs import MUTED, glyph
from fedtui.tui.pane import Pane
from fedtui.tui.staleness import Staleness, when
from fedtui.tui.store import Store
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.line_input import LineInput
from fedtui.tui.widgets.listing import Listing
from fedtui.tui.widgets.settings import VALUE, SettingDetail, Settings, spell
from poweranger.errors import UserError
from poweranger.run_config import BY_NAME, KEYS, Value


class SettingsPanel(Vertical):
    """The keys, and all about the one under the cursor.

    Attributes
    ----------
    needle : what the keys that are shown have in their name or description.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "edit", show=False),
        Binding("delete,backspace", "default", "default", key_display="del"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "clear_filter", show=False),
    ]
    DEFAULT_CSS = """
    SettingsPanel SettingDetail { border-top: solid $surface-lighten-2; height: 6; }
    SettingsPanel #filter { display: none; }
    SettingsPanel #editor { position: absolute; width: 20; }
    """

    def __init__(self, store: Store, draft: Draft, stale: Staleness, *, classes: str) -> None:
        super().__init__(classes=classes)
        self.store, self.draft, self.stale = store, draft, stale
        self.needle = ""
        self._editing: str | None = None  # the key whose value is typed

    def compose(self) -> ComposeResult:
        """The line of the filter, the list, the details."""
        yield LineInput(id="filter", placeholder="a word of a key's name or description")
        yield Settings(id="settings")
        yield SettingDetail()

    def on_mount(self) -> None:
        """Show what is known already."""
        self.show()

    def show(self) -> None:
        """Bring everything up to date with draft and store."""
        entries = self.draft.file.entries
        later = {key.name for key in KEYS if self.stale.is_later(self.store, key.name, entries[key.name].value)}
        self.query_one(Settings).show(self.draft, self._run_config(), later, self.needle)
        count = len(self.draft.changes)
        parts = [f"{glyph('edited')} {count} not saved: w saves"] if count else []
        parts += [f"{glyph('backoff')} {len(later)} count from the next start"] if later else []
        beside = f", beside that of {clean(self.store.viewed)}" if self.store.viewed else ""
        entitle(self, f"Run configuration{beside}" + (f" / {clean(self.needle)}" if self.needle else ""), "  ".join(parts))
        if self._editing is None:
            self._detail(*self._message(later))

    def go(self, key: str) -> None:
        """Put the cursor on a key."""
        self.query_one(Settings).go(key)

    @property
    def key(self) -> str | None:
        """The key under the cursor."""
        return self.query_one(Settings).key

    # Editing

    @on(Listing.Opened, "#settings")
    def action_edit(self) -> None:
        """Step to the next of few values; any other value is typed in its place."""
        name = self.key
        if name is None or not self._pane.fed.actions.allowed():
            return
        key, value = BY_NAME[name], self.draft.value(name)
        choices: tuple[Value, ...] = (False, True) if isinstance(key.default, bool) else key.choices
        if choices:
            at = choices.index(value) if value in choices else -1
            self._change(name, choices[(at + 1) % len(choices)])
            return
        settings = self.query_one(Settings)
        cell = settings.region_of(VALUE)
        end = settings.size.width if key.kind == "text" else settings.region_of(VALUE + 1).right
        self._editing = name
        editor = LineInput(str(value) if isinstance(value, str) else spell(value), id="editor")
        editor.styles.offset, editor.styles.width = cell.offset, max(end - cell.x, 4)
        settings.mount(editor)
        editor.focus()

    @on(LineInput.Changed, "#editor")
    def _typed(self, event: LineInput.Changed) -> None:
        if self._editing is None:
            return
        try:
            value = self.draft.read(self._editing, event.value)
        except UserError as error:
            event.input.add_class("-wrong")
            self._detail(str(error), "$error")
        else:
            event.input.remove_class("-wrong")
            self._detail(f"enter takes {spell(value)} over, esc leaves it as it was", "$success")

    @on(LineInput.Submitted, "#editor")
    def _submitted(self, event: LineInput.Submitted) -> None:
        name = self._editing
        if name is None:
            return
        try:
            value = self.draft.read(name, event.value)
        except UserError:  # it is said already
            return
        self._close_editor()
        self._change(name, value)

    @on(LineInput.Cancelled, "#editor")
    @on(LineInput.Blurred, "#editor")
    def _close_editor(self) -> None:
        if self._editing is None:
            return
        self._editing = None
        editor = self.query_one("#editor", LineInput)
        if editor.has_focus:
            self.query_one(Settings).focus()
        editor.remove()
        self.show()

    def on_resize(self) -> None:
        """The value lies elsewhere now."""
        self._close_editor()

    def action_default(self) -> None:
        """Go back to the default."""
        if self.key is not None and self._pane.fed.actions.allowed():
            self._change(self.key, BY_NAME[self.key].default)

    def _change(self, name: str, value: Value) -> None:
        self.draft.set(name, value)
        self.show()

    # What is said of the key under the cursor

    def _run_config(self) -> dict[str, Value]:
        """The configuration of the run that is looked at, else of the newest one."""
        run = next((run for run in self.store.runs if run.name == self.store.viewed), None)
        return dict(run.config if run is not None else self.store.run.get("config", {}))

    def _message(self, later: set[str]) -> tuple[str, str]:
        name, file = self.key, self.draft.file
        if file.error:
            return f"{file.error}: mend it, it is read again at once", "$error"
        if name is None:
            return "", ""
        entry, in_run = file.entries[name], self._run_config().get(name)
        if name in self.draft.changes:
            return f"was {spell(entry.value)}; not saved: w saves, z takes it back. It counts {when(entry.key)}", "$accent"
        if entry.wrong:
            return f"{entry.wrong}: e mends it", "$error"
        if name in later:
            return f"saved; it counts {when(entry.key)}", "$warning"
        if in_run is not None and in_run != entry.value:
            return f"{self.store.viewed or self.store.progress.get('run') or 'the run'} had {spell(in_run)}", "$warning"
        if file.unknown:
            return f"no keys, but in the file: {', '.join(file.unknown)} (fedtui config unset takes them out)", "$warning"
        return ("", "") if entry.in_file else ("not in the file: the default counts", MUTED)

    def _detail(self, message: str, tone: str) -> None:
        name = self._editing or self.key
        self.query_one(SettingDetail).show(BY_NAME[name] if name else None, clean(message), tone)

    @on(Listing.Moved, "#settings")
    def _moved(self) -> None:
        self._close_editor()
        self.show()

    # Filtering

    def action_filter(self) -> None:
        """Type what to look for."""
        line = self.query_one("#filter", LineInput)
        line.display = True
        line.value = self.needle
        line.focus()

    @on(LineInput.Changed, "#filter")
    def _filter(self, event: LineInput.Changed) -> None:
        self.needle = event.value.strip()
        self.show()

    @on(LineInput.Submitted, "#filter")
    def _filtered(self) -> None:
        self.query_one("#filter").display = False
        self.query_one(Settings).focus()

    @on(LineInput.Cancelled, "#filter")
    def action_clear_filter(self) -> None:
        """Show all keys again."""
        if not self.needle and not self.query_one("#filter").display:
            raise SkipAction
        self.needle = ""
        self._filtered()
        self.show()

    @property
    def _pane(self) -> Pane:
        return next(node for node in self.ancestors if isinstance(node, Pane))
