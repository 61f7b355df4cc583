"""What stands in a place that has nothing to show."""
from __future__ import annotations

from textual.widgets import Static


class Nothing(Static, can_focus=True):
    """Says what is missing and which key helps; it takes the focus, so that the keys of the place work here too."""

    DEFAULT_CSS = "Nothing { width: 1fr; height: 1fr; color: $text-muted; text-align: center; content-align: center middle; }"

    def __init__(self) -> None:
        super().__init__(markup=False)
