"""Runs: all of them with how they went; overlay some, open one, go on with one, begin one like it, or use its model."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from fedtui.cleaning import clean
from fedtui.tui.dialogs import confirm
from fedtui.tui.glyphs import colour, glyph
from fedtui.tui.pane import Pane
from fedtui.tui.store import Store
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.listing import Cell, Column, Listing, Row
from fedtui.tui.widgets.run_details import RunDetails, differences, spell_config, took

if TYPE_CHECKING:
    from fedtui.metrics import RunSummary

EMPTY = "no run yet\n\nu starts the federation, and with it the first run\n: and Demo shows one on made-up images"
COLUMNS = (
    Column("", 1, 1), Column("RUN", 46, 12), Column("OUTCOME", 13, 9), Column("ROUNDS", 16, 6, right=True), Column("ACCURACY", 8, 8, right=True),
    Column("LOSS", 8, 6, right=True, beyond=88), Column("TOOK", 9, 6, right=True, beyond=66), Column("STARTED", 16, beyond=125), Column("DIFFERS IN", least=12),
)  # fmt: skip


class RunsPane(Pane):
    """A row a run, newest first, and more about the one under the cursor."""

    TITLE, KEY = "Runs", "7"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pick", "overlay"),
        Binding("r", "resume", "resume"),
        Binding("n", "again", "new with its config"),
        Binding("v", "form('EvaluateForm')", "evaluate"),
        Binding("p", "form('PredictForm')", "predict"),
        Binding("w", "form('ExportForm')", "export"),
        Binding("o", "output", "output"),
        Binding("c", "config", "its configuration"),
        Binding("escape", "unpick", "none", show=False),
    ]
    DEFAULT_CSS = """
    RunsPane { layout: vertical; }
    RunsPane #list { height: 1fr; }
    RunsPane RunDetails { height: 8; }
    RunsPane.-high RunDetails { height: 12; }
    RunsPane.-wide { layout: horizontal; }
    RunsPane.-wide #list { width: 2fr; }
    RunsPane.-wide RunDetails { width: 1fr; height: 1fr; }
    """

    def compose(self) -> ComposeResult:
        """The list and the details."""
        with Vertical(id="list", classes="panel"):
            yield Listing(COLUMNS, EMPTY, id="runs")
        yield RunDetails(classes="panel")

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Follow the runs."""
        if changed & {"runs", "progress", "daemon", "file"}:
            self._show()

    def state(self) -> dict[str, Any]:
        """The run under the cursor."""
        return {"key": self.query_one(Listing).key}

    def restore(self, state: dict[str, Any]) -> None:
        """Go there."""
        self.query_one(Listing).go(str(state.get("key")))

    def on_resize(self, event: events.Resize) -> None:
        """Details beside the list, or below it, in as much room as there is."""
        self.set_class(event.size.height >= 34, "-high")
        self.set_class(event.size.width >= 150, "-wide")

    def _show(self) -> None:
        store = self.store
        runs = store.runs
        compared = [run for run in runs if run.name in store.picked] if len(store.picked) > 1 else runs
        differ = differences(compared)
        self.query_one(Listing).empty = store.no_run or EMPTY
        self.query_one(Listing).put([Row(run.name, self._cells(run, differ.get(run.name, {}))) for run in runs])
        notes = [f"{glyph('selected')} {len(store.picked)} to overlay in Metrics (2)"] if store.picked else []
        notes += [f"{glyph('left')} shown in Metrics, Rounds and Config"] if store.viewed else []
        entitle(self.query_one("#list"), f"Runs  {len(runs)}" if runs else "Runs", "  ".join(notes))
        self._show_details()

    def _cells(self, run: RunSummary, differs: Mapping[str, object]) -> tuple[Cell, ...]:
        picked, viewed = run.name in self.store.picked, run.name == self.store.viewed
        return (
            (glyph("selected"), "accent") if picked else "",
            (run.name + (f" {glyph('left')}" if viewed else ""), "strong" if picked or viewed else ""),
            (f"{glyph(run.outcome)} {run.outcome}", colour(run.outcome)),
            (f"{glyph('best')}{run.best_round} " if run.best_round else "") + f"{'?' if run.rounds_done is None else run.rounds_done}/{'?' if run.rounds is None else run.rounds}",
            _figure(run.best_accuracy), _figure(run.best_loss), took(run.seconds),
            f"{run.start.astimezone():%Y-%m-%d %H:%M}" if run.start else "", (spell_config(differs), "muted"),
        )  # fmt: skip

    @on(Listing.Moved, "#runs")
    def _show_details(self) -> None:
        details = self.query_one(RunDetails)
        details.display = self._run is not None
        details.show(self._run, self.store)
        self.refresh_bindings()

    @property
    def _run(self) -> RunSummary | None:
        name = self.query_one(Listing).key
        return next((run for run in self.store.runs if run.name == name), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a run that has ended early can be resumed, and only one with a complete round has a model."""
        if action == "resume":
            return self._run is not None and _can_resume(self._run)
        if action == "form":
            return self._run is not None and bool(self._run.rounds_done)
        if action == "output":
            return self.fed.program is not None
        if action in ("pick", "again", "config"):
            return self._run is not None
        return True

    def action_pick(self) -> None:
        """Overlay the run in Metrics, or not any more."""
        if (run := self._run) is not None:
            self.store.picked ^= {run.name}
            self._show()
            self.query_one(Listing).action_move(1)

    def action_unpick(self) -> None:
        """Overlay nothing; look at the newest run again."""
        if not self.store.picked and self.store.viewed is None:
            raise SkipAction
        self.store.picked.clear()
        self.store.viewed = None
        self._show()

    @on(Listing.Opened, "#runs")
    async def action_look(self) -> None:
        """Look at the run's metrics, rounds and configuration."""
        if (run := self._run) is not None:
            newest = run is self.store.runs[0]
            self.store.viewed = None if newest else run.name
            await self.fed.action_go("metrics")
            if not newest:
                self.fed.say(f"Metrics, Rounds and Configuration are about {run.name} now", remedy="esc in Runs (7) goes back to the newest")

    async def action_config(self) -> None:
        """Compare the run's configuration with the file's."""
        if (run := self._run) is not None:
            self.store.viewed = run.name
            await self.fed.action_go("config")

    def action_resume(self) -> None:
        """Go on after the last complete round, after a question."""
        run = self._run
        if run is None or not self._may_start():
            return
        text = f"It goes on after round {run.rounds_done or 0} of {run.rounds or '?'}; what its clients did beyond that is done again. Server and clients are started."
        confirm(self.app, f"Resume {run.name}?", text, "resume", lambda: self.fed.actions.up(resume=run.name))

    def action_again(self) -> None:
        """Start a new run with this one's configuration, after a question."""
        from poweranger.run_config import BY_NAME

        run = self._run
        if run is None or not self._may_start():
            return
        file = self.store.file
        config = {name: value for name, value in run.config.items() if name in BY_NAME and BY_NAME[name].reader != "site"}
        other = {name: value for name, value in config.items() if file is not None and value != file.entries[name].value}
        text = f"As {run.name}; other than in pyproject.toml: {spell_config(other)}." if other else "Its configuration is the one in pyproject.toml."
        word = clean(run.name).split("-", 2)[-1]
        confirm(self.app, "Start a new run?", f"{text} Server and clients are started.", "start", lambda: self.fed.actions.up(set=config, run_name=word))

    def action_form(self, name: str) -> None:
        """Ask what is needed to do something with the run's model, then do it in the background."""
        from fedtui.tui.program import run_program
        from fedtui.tui.widgets import run_forms

        run = self._run
        if run is None or not self.fed.actions.allowed():
            return
        form: run_forms.RunForm = getattr(run_forms, name)(run, self.store.project.root)

        def act(arguments: list[str] | None) -> None:
            if arguments is not None:
                run_program(self.fed, f"{form.verb} {run.name}", form.module, arguments)

        self.app.push_screen(form, act)

    def action_output(self) -> None:
        """Show what the last of these programs prints or has printed."""
        from fedtui.tui.program import show_program

        show_program(self.fed)

    def _may_start(self) -> bool:
        if not self.fed.actions.allowed():
            return False
        if "server" in self.store.active:
            self.fed.say("a run goes already: the server has one at a time", "warning", "D stops everything, or wait until it is done")
            return False
        return True


def _can_resume(run: RunSummary) -> bool:
    unfinished = run.rounds is None or run.rounds_done is None or run.rounds_done < run.rounds
    return (run.outcome in ("interrupted", "stopped", "failed") or run.stopped_early) and unfinished


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
