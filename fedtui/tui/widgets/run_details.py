"""All about one run that does not fit in its row."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget

from fedtui.cleaning import clean
from fedtui.tui.glyphs import MUTED, colour, glyph
from fedtui.tui.store import Store
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.run_header import epsilon
from fedtui.tui.widgets.settings import spell
from poweranger.run_config import BY_NAME

if TYPE_CHECKING:
    from fedtui.metrics import RunSummary


TALL = 16  # rows from which the configuration is a table


class RunDetails(Widget):
    """Outcome with its reason, times, clients, and the configuration as far as it is not the default, or is another one now."""

    DEFAULT_CSS = "RunDetails { height: 8; }"
    _content = Content("")
    _shown: tuple[RunSummary | None, Store] | None = None

    def show(self, run: RunSummary | None, store: Store) -> None:
        """Show a run."""
        entitle(self, clean(run.name) if run is not None else "Run")
        self._shown = run, store
        content = _describe(run, store, self.size.height >= TALL) if run is not None else Content("")
        if content != self._content:
            self._content = content
            self.refresh()

    def on_resize(self) -> None:
        """There is room for a table now, or no more."""
        if self._shown is not None:
            self.show(*self._shown)

    def render(self) -> Content:
        """The lines."""
        return self._content


def differences(runs: Sequence[RunSummary]) -> dict[str, dict[str, Any]]:
    """By run the keys in which these runs' configurations differ."""
    from fedtui.metrics import config_differences

    return config_differences(runs)


def spell_config(values: Mapping[str, object]) -> str:
    """Values of a configuration in a line; a key that a run does not know is left out."""
    return clean("  ".join(f"{name}={_spell(value)}" for name, value in values.items() if value is not None))


def took(seconds: float | None) -> str:
    """A duration in two units at most; empty when it is not known."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h" if whole < 360_000 else f"{whole // 86_400} d"


def _describe(run: RunSummary, store: Store, tall: bool) -> Content:
    times = [f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" for moment in (run.start, run.end) if moment]
    clients = f"{len(run.clients)} client{'s' if len(run.clients) != 1 else ''}: {', '.join(run.clients)}" if run.clients else ""
    images = "  synthetic images" if run.synthetic and set(run.synthetic) >= set(run.clients) else "  some with synthetic images" if run.synthetic else ""
    lines = [
        Content.assemble((f"{glyph(run.outcome)} {run.outcome}", f"bold {colour(run.outcome)}"), f"  {clean(run.reason)}" if run.reason else ""),
        Content.assemble((" – ".join(times), MUTED)),
        Content.assemble(clean(clients), (images, "$warning")),
        Content.assemble((f"{glyph('best')} best round {run.best_round}", "bold $accent"), clean(f"  {run.best_metric} {run.best_value:.4g}")) if run.best_round else Content(""),
        *_privacy(run),
        *(_as_table if tall else _in_lines)(run, store),
    ]
    return Content("\n").join(line for line in lines if line.plain.strip())


def _privacy(run: RunSummary) -> list[Content]:
    """What is protected, what that has cost so far, and what it makes impossible."""
    lines, told = [], run.privacy
    if spent := epsilon(told, run.config):
        lines.append(Content.assemble((f"differential privacy, {clean(str(told.get('dp')))}: ", MUTED), f"{spent} at delta {_spell(told.get('delta'))}"))
    if told.get("secure_aggregation"):
        lost = [clean(str(what)) for what in told.get("not_possible") or []]
        lines.append(Content.assemble(("secure aggregation: ", MUTED), "sums only", (f"; not possible: {'; '.join(lost)}" if lost else "", MUTED)))
    return lines


def _in_lines(run: RunSummary, store: Store) -> list[Content]:
    unusual = {name: value for name, value in run.config.items() if value != _default(name)}
    other = {name: now for name in run.config if (now := _now(name, store)) != run.config[name]}
    now = spell_config(other) if store.file is not None else ""
    return [
        Content.assemble(("not the default: ", MUTED), spell_config(unusual) or "nothing"),
        Content.assemble(("pyproject.toml has now: ", MUTED), now) if now else Content(""),
    ]


def _as_table(run: RunSummary, store: Store) -> list[Content]:
    names = [name for name, value in run.config.items() if value not in (_default(name), None) or value != _now(name, store)]
    rows = [(clean(name, 24), *(_spell(value) for value in (run.config[name], _default(name), _now(name, store)))) for name in names]
    if not rows:
        return [Content.styled("every key had its default, and has it now", MUTED)]
    head = ("KEY", "IN THIS RUN", "DEFAULT", "NOW")
    widths = [max(cell_len(row[column]) for row in [head, *rows]) for column in range(4)]
    padded = [[set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    body = [Content.assemble(f"{key}  ", (in_run, "$accent"), ("  ", ""), (f"{default}  {now}", MUTED)) for key, in_run, default, now in padded[1:]]
    return [Content(" "), Content.styled("  ".join(padded[0]), f"bold {MUTED}"), *body]


def _default(name: str) -> object:
    return BY_NAME[name].default if name in BY_NAME else None


def _now(name: str, store: Store) -> object:
    return store.file.entries[name].value if store.file is not None and name in store.file.entries else None


def _spell(value: object) -> str:
    return clean(spell(value) if isinstance(value, (bool, int, float, str)) else "" if value is None else str(value), 24)
