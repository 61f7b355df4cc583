"""What the interface sets going. Every action answers at once, goes on in the background, and says how it ended."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from fedtui.cleaning import clean
from poweranger.errors import UserError

if TYPE_CHECKING:
    from textual.app import App

    from fedtui.client import DaemonClient
    from fedtui.tui.app import FedApp

T = TypeVar("T")
DOING = {"start": "starting", "stop": "stopping", "restart": "restarting", "kill": "killing"}
DONE = {"start": "started", "stop": "stopped", "restart": "restarted", "kill": "killed"}


def in_background(app: App[Any], work: Callable[[], T], done: Callable[[T], object], failed: Callable[[UserError], object]) -> None:
    """Do `work` in a thread; `done` or, after a user's mistake or an error of the system, `failed` is called on the UI thread.

    A daemon thread, other than Textual's own workers: leaving the interface does not wait for it.
    """

    def run() -> None:
        try:
            result = work()
        except UserError as error:
            tell(failed, error)
        except OSError as error:
            tell(failed, UserError(str(error)))
        else:
            tell(done, result)

    def tell(callback: Callable[..., object], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the interface has been left meanwhile
            app.call_later(callback, value)

    threading.Thread(target=run, daemon=True).start()


class Actions:
    """Start, stop, restart and kill; all up, all down, a demo run. With `--read-only` each is refused."""

    def __init__(self, app: FedApp) -> None:
        self._app = app

    def allowed(self) -> bool:
        """Whether something may be changed; says so when not."""
        if self._app.store.read_only:
            self._app.say("nothing is changed here: this interface was opened with --read-only", "warning", "leave it and open `fedtui` without it")
        return not self._app.store.read_only

    def act(self, names: Iterable[str], action: str, *, force: bool = False) -> None:
        """`start`, `stop`, `restart` or `kill` each of `names`."""
        if not self.allowed():
            return
        for name in names:
            self._one(name, action, force)

    def up(self, **wishes: Any) -> None:
        """Start server and clients; `wishes` as of `POST /v1/up`, such as `resume`, `rounds` or `set`."""
        self._all("starting the federation", lambda client: _up(client, wishes))

    def demo(self) -> None:
        """A run on made-up images: a server and three clients, five rounds."""

        def start(client: DaemonClient) -> list[str]:
            from fedtui.cli.simulate import DEMO

            client.up(clients=3, rounds=5, set=DEMO, run_name="demo", synthetic=True)
            return ["the demo begins: a server and three clients on made-up images, five rounds"]

        self._all("starting the demo", start)

    def simulate(self, **wishes: Any) -> None:
        """Flower's simulation in one process; `wishes` as of `POST /v1/simulate`."""

        def start(client: DaemonClient) -> list[str]:
            client.simulate(**wishes)
            return ["the simulation begins: its process is called simulation"]

        self._all("starting the simulation", start)

    def down(self, then: Callable[[], object] | None = None) -> None:
        """Stop the clients, then the server; `then` is called when all have ended."""

        def stop(client: DaemonClient) -> list[str]:
            client.down()
            return ["everything has been stopped"]

        self._all("stopping everything: the clients first, then the server", stop, then)

    def _all(self, announcement: str, work: Callable[[DaemonClient], list[str]], then: Callable[[], object] | None = None) -> None:
        if not self.allowed():
            return
        app = self._app
        app.say(announcement + "…")

        def done(notes: list[str]) -> None:
            for note in notes:
                app.say(note)
            app.look_again()
            if then is not None:
                then()

        in_background(app, lambda: work(self._client()), done, self._failed)
        app.look_again()

    def _one(self, name: str, action: str, force: bool) -> None:
        app = self._app
        app.expect(name, DOING[action])

        def done(process: dict[str, Any]) -> None:
            app.expect(name, None)
            if process["state"] == "held":
                app.say(f"{name} is held: {process.get('reason')}", "warning", "it starts by itself when it can")
            elif process["state"] not in ("failed", "backoff"):  # those are said when they are seen
                app.say(f"{name} {DONE[action]}")

        def failed(error: UserError) -> None:
            app.expect(name, None)
            self._failed(error)

        in_background(app, lambda: self._client().act(name, action, force=force), done, failed)

    def _failed(self, error: UserError) -> None:
        self._app.say(str(error), "error")
        self._app.look_again()

    def _client(self) -> DaemonClient:
        """One of its own for each action: a thread each, and a daemon that has ended is started again."""
        from fedtui.client import DaemonClient

        return DaemonClient(self._app.store.project)


def _up(client: DaemonClient, wishes: dict[str, Any]) -> list[str]:
    """As `fedtui up`: the first round waits for all clients, unless the run configuration says otherwise."""
    from fedtui.cli.context import parse_set
    from fedtui.cli.up import wait_for_all
    from fedtui.processes import ACTIVE

    roster = client.project.roster()
    settings = parse_set(None) | dict(wishes.get("set") or {})
    notes: list[str] = []
    runs = any(process["name"] == "server" and process["state"] in ACTIVE for process in client.processes())
    if roster.server_local and not runs and not wishes.get("resume"):
        settings, notes = wait_for_all(settings, len(roster.effective(wishes.get("clients"))), client.project)
    answer = client.up(**{**wishes, "set": settings})
    return [*(clean(str(note)) for note in [*notes, *answer["notes"]])]
