"""Where the newest run stands, in two lines."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content
from textual.widget import Widget

from fedtui.processes import PHASES
from fedtui.tui.glyphs import MUTED, bar, colour, glyph
from fedtui.tui.store import Store
from fedtui.tui.widgets.process_table import age

BAR = 30  # cells of the bar at most
NARROW = 90
Parts = list[str | Content | tuple[str, str]]


class RunHeader(Widget):
    """The run's name, round, phase, time left; who is sampled and has answered; whether the data are made up."""

    DEFAULT_CSS = "RunHeader { height: 2; }"

    def __init__(self, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self._lines: tuple[Content, ...] = ()
        self._store: Store | None = None

    def show(self, store: Store) -> None:
        """Bring it up to date."""
        self._store = store
        lines = tuple(self._content(store))
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render(self) -> Content:
        """Both lines, each cut at the right edge."""
        width = self.size.width
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in self._lines)

    def on_resize(self) -> None:
        """The bar has another width now."""
        if self._store is not None:
            self.show(self._store)

    def _content(self, store: Store) -> Sequence[Content]:
        progress = store.progress
        if not store.loaded:
            return [Content.styled("asking the daemon…", MUTED)]
        if store.site_of and not progress.get("run"):
            return [
                Content.assemble(f"This is a site of {store.site_of}: runs and their results are at the server"),
                Content.assemble(("u", "bold $accent"), " starts the clients of the roster"),
            ]
        if not progress.get("run"):
            return [
                Content.assemble(("No run yet. ", "bold"), ("u", "bold $accent"), " starts the server and the clients of the roster"),
                Content.assemble((":", "bold $accent"), " then Demo starts a run on made-up images; ", ("a", "bold $accent"), " adds a client with images"),
            ]
        return [self._first(progress, store.run), _second(progress, store.run)]

    def _first(self, progress: Mapping[str, Any], run: Mapping[str, Any]) -> Content:
        outcome = str(progress.get("outcome") or "running")
        number, rounds, phase = progress.get("round") or 0, progress.get("rounds") or 0, str(progress.get("phase", ""))
        done = max(number - 1, 0) if phase in ("fit", "eval") else number
        made_up, clients = run.get("synthetic") or [], run.get("clients") or []
        who = "" if len(made_up) == len(clients) else f" of {', '.join(made_up)}"
        badge = Content.styled(f" SYNTHETIC DATA{who} " if self.size.width > NARROW else " SYNTHETIC ", "bold reverse $warning")
        sign = Content.styled(f"{glyph(outcome)} {outcome} ", f"bold {colour(outcome)}")
        step = f" {PHASES.get(phase, phase)}" if outcome == "running" else ""
        badges: Parts = [badge, " "] if made_up else []
        if (run.get("privacy") or {}).get("secure_aggregation"):
            badges += [Content.styled(" SUMS ONLY ", "reverse $accent"), " "]
        spent = epsilon(run.get("privacy") or {}, run.get("config") or {})
        best = (progress.get("best") or run.get("best") or {}).get("round")
        figures = Content.assemble(*badges, f" round {number}/{rounds} ", (f"{glyph('best')} best {best} " if best else "", "$accent"), f"{spent} " if spent else "")
        room = self.size.width - sign.cell_length - figures.cell_length - len(step) - 1
        name = Content.styled(str(progress["run"]), "bold").truncate(max(room, 8), ellipsis=True)
        length = min(room - name.cell_length - 1, BAR)
        meter = Content.styled(bar(done / rounds if rounds else 0, length), "$accent") if length >= BAR // 4 else Content("")
        return Content.assemble(sign, name, " ", figures, meter, step)


def epsilon(privacy: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a run has spent of its privacy budget; empty without differential privacy."""
    spent, target = privacy.get("epsilon"), config.get("dp-target-epsilon")
    bound = f" of {target:g}" if isinstance(target, float) and target else ""
    return f"epsilon {spent:.3g}{bound}" if isinstance(spent, float) else ""


def _second(progress: Mapping[str, Any], run: Mapping[str, Any]) -> Content:
    """Who takes part; of a run that is over, why it ended."""
    if progress.get("outcome") not in (None, "running"):
        reason = str(progress.get("reason") or run.get("reason") or "")
        figures = [f"{len(run.get('clients') or [])} clients"]
        hint: Parts = [("7", "bold $accent"), " all runs, ", ("u", "bold $accent"), " another one"]
        return Content.assemble((reason, colour(str(progress["outcome"]))), "  ", *hint) if reason else Content.assemble((", ".join(figures), MUTED), "  ", *hint)
    sampled, replied = progress.get("sampled"), progress.get("replied") or []
    if sampled is None:
        connected = progress.get("connected") or []
        refused = progress.get("refused") or {}
        parts: Parts = [("connected ", MUTED), ", ".join(connected) or "nobody yet"]
        for name, why in list(refused.items())[:3]:
            parts += ["  ", (f"{glyph('failed')} {name} refused: {why}", "$error")]
        figures = [f"{name} {progress[name]:.3f}" for name in ("loss", "accuracy") if isinstance(progress.get(name), float)]
        return Content.assemble(*_time_left(progress), *parts, ("  " + "  ".join(figures) if figures else "", "bold"))
    waiting = [name for name in sampled if name not in replied]
    parts = [*_time_left(progress), ("sampled ", MUTED), f"{len(sampled)}  ", (f"{glyph('ok')} answered ", "$success"), ", ".join(replied) or "nobody yet"]
    if waiting:
        parts += ["  ", (f"{glyph('starting')} at work ", "$warning"), ", ".join(waiting)]
    return Content.assemble(*parts)


def _time_left(progress: Mapping[str, Any]) -> Parts:
    left, over = progress.get("seconds_left"), progress.get("round") == progress.get("rounds")
    return [f"about {age(left)}", (" left  ", MUTED)] if left is not None and not over else []
