"""The thread that looks, once a second, and hands over what it has seen."""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from textual.app import App

from fedtui.tui.store import News

LOOK_S = 1.0


class Watch:
    """Looks, hands over, waits until that is on the screen, then waits a second.

    Parameters
    ----------
    look : called in the thread. show : called with what it saw, on the UI thread of `app`.
    """

    def __init__(self, app: App[Any], look: Callable[[], News], show: Callable[[News], object]) -> None:
        self._app, self._look, self._show = app, look, show
        self._again = threading.Event()  # set: look at once, rather than when the second is over
        self._ended = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, daemon=True).start()

    def look_again(self) -> None:
        """Look at once."""
        self._again.set()

    def end(self) -> None:
        """Look no more."""
        self._ended = True
        self._again.set()

    def _run(self) -> None:
        shown = threading.Event()
        pause = 0.0  # the first look is a short one
        while not self._ended:
            self._again.clear()
            try:
                news = self._look()
            except Exception as error:  # a mistake of ours must not stop the watch
                news = {"daemon_ok": False, "daemon_error": f"the interface made a mistake ({type(error).__name__}: {error})", "tables": {}}
            shown.clear()
            try:
                self._app.call_later(self._hand_over, news, shown)
            except RuntimeError:  # the interface has been left meanwhile
                return
            while not shown.wait(1.0) and not self._ended:  # a frozen terminal holds the UI thread up
                pass
            self._again.wait(pause)
            pause = LOOK_S

    def _hand_over(self, news: News, shown: threading.Event) -> None:
        try:
            self._show(news)
        finally:
            shown.set()
