"""What the seven places have in common."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.widget import Widget

from fedtui.tui.store import Store

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp


class Pane(Widget):
    """A place of the interface. It reads the store, opens no file and calls no daemon on the UI thread.

    It is made and mounted when it is first shown, then only hidden; its children may be composed as of any widget.

    Attributes
    ----------
    TITLE, KEY : its name, and the key that leads to it.
    ABOUT_PROCESS : whether the selected process is in sight here, so that `s`, `x`, `r` and `X` may act on it.
    store : what there is to show.
    """

    TITLE: ClassVar[str]
    KEY: ClassVar[str]
    ABOUT_PROCESS: ClassVar[bool] = False

    DEFAULT_CSS = "Pane { width: 1fr; height: 1fr; }"

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    @property
    def fed(self) -> FedApp:
        """The application: `fed.actions` starts and stops, `fed.say` tells, `fed.go` leads to another place."""
        return cast("FedApp", self.app)

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Bring the widgets up to date.

        Called on the UI thread about once a second while this place is visible, and when it becomes visible; `changed` names
        what has changed since, and may be empty: see `Store.ALL`.
        """

    def state(self) -> dict[str, Any]:
        """What is to be found as it was after leaving and coming back (selection, filters, follow): plain JSON."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, before the first `show`; of an older version or damaged it may be anything."""

    def take_focus(self) -> None:
        """Focus what the keys are for: by default the first widget that can be focused."""
        for widget in self.query("*"):
            if widget.focusable:
                widget.focus(scroll_visible=False)
                return
