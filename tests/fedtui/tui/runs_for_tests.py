"""Runs written by the real writer, and an interface that sees their files; the test speaks for the daemon."""
from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fedtui.project import Project
from fedtui.tui.app import FedApp
from fedtui.tui.store import Looker, News
from poweranger.results import Run
from tests.fedtui.tui.conftest import Screen

CLIENTS = ("C1", "C2", "C3", "C4")


class FilesOnly(Looker):
    """Sees runs as they lie there, and what the test says of the one that goes on."""

    def __init__(self, project: Project, progress: dict[str, Any]) -> None:
        super().__init__(project)
        self.progress = progress

    def look(self, wanted: Mapping[str, bool]) -> News:
        """All there is to see now."""
        runs = self._runs()
        progress = {"run": runs[0].name if runs else None, "outcome": "running", **self.progress}
        return {"daemon_ok": True, "daemon_error": "", "info": {"daemon_pid": 1}, "processes": [], "memory": {}, "progress": progress,
                "runs": runs, "tables": self._read_tables(wanted)}  # fmt: skip


class Hospital:
    """A project whose runs a test writes round by round."""

    def __init__(self, root: Path) -> None:
        (root / "results").mkdir(parents=True)
        (root / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
        self.project = Project.find(root)
        self.progress: dict[str, Any] = {}
        self._started = 1_700_000_000

    def run(self, word: str, rounds: int = 0, **config: Any) -> Run:
        """Begin a run, with some rounds done."""
        run = Run.create(self.project.results, word, {"num-server-rounds": 20, "image-size": 96, **config})
        for number in range(1, rounds + 1):
            self.round(run, number)
        return run

    def round(
        self, run: Run, number: int, *, clients: tuple[str, ...] = CLIENTS, outlier: str = "", parts: Mapping[str, Mapping[str, object]] | None = None,
        extra: Mapping[str, float] | None = None,
    ) -> None:
        """Write a round: loss 1/`number`, accuracy 1 - loss / 2; each client is a little off, the outlier far."""
        rows: dict[str, list[dict[str, object]]] = {"participation": [], "fit_client_metrics": [], "eval_client_metrics": []}
        loss = 1 / number
        for place, client in enumerate(clients):
            part = {"outcome": "ok", "seconds": 5.0 + place / 10, "reason": "", **(parts or {}).get(client, {})}
            rows["participation"].append({"round": number, "phase": "fit", "client_id": client, **part})
            if part["outcome"] == "ok":
                own = loss + 0.01 * place + (2.0 if client == outlier else 0.0)
                figures = {"round": number, "client_id": client, "num_examples": 30 + place, "loss": own, "accuracy": 1 - own / 2}
                rows["fit_client_metrics"].append(figures)
                rows["eval_client_metrics"].append(figures)
                rows["participation"].append({"round": number, "phase": "eval", "client_id": client, "outcome": "ok", "seconds": 0.4, "reason": ""})
        rows["fit_metrics"] = [{"round": number, "loss": loss * 0.9, "accuracy": 1 - loss * 0.45}]
        rows["eval_metrics"] = [{"round": number, "loss": loss, "accuracy": 1 - loss / 2, "balanced_accuracy": 0.5 - loss / 4, **(extra or {})}]
        run.commit_round(number, rows, None)
        snapshot = run.path / "models" / f"round_{number:03d}.npz"
        snapshot.write_bytes(b"")
        os.utime(snapshot, (self._started + 60 * number,) * 2)

    def open(self, place: str, script: Callable[[Screen], Awaitable[None]], size: tuple[int, int] = (120, 40)) -> None:
        """Open the interface at a place and let `script` use it."""

        async def go() -> None:
            app = FedApp(self.project, look=FilesOnly(self.project, self.progress).look)
            async with app.run_test(size=size, notifications=True) as pilot:
                screen = Screen(app, pilot)
                await screen.until(lambda: app.pane is not None, "a place")
                await app.action_go(place)
                await script(screen)
                app.leave()

        asyncio.run(go())
