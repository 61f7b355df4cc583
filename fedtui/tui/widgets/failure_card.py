"""Why a process failed, over its log."""
from __future__ import annotations

import signal
from typing import Any

from textual.content import Content
from textual.widgets import Static

from fedtui.cleaning import clean
from fedtui.tui.glyphs import glyph


class FailureCard(Static):
    """The cause in words, how it ended, and its last lines; hidden while there is nothing to tell."""

    DEFAULT_CSS = """
    FailureCard { display: none; height: auto; padding: 0 1; border-left: thick $error; background: $error 12%; }
    FailureCard.-shown { display: block; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: tuple[object, ...] = ()

    def show(self, process: dict[str, Any] | None, card: dict[str, Any] | None, lines: int) -> None:
        """Show the failure `card` of a process with `lines` of its last lines; None hides what there was."""
        shown = (process and (process["name"], process["state"], process.get("reason")), card, lines)
        if shown == self._shown:
            return
        self._shown = shown
        self.set_class(bool(process and card), "-shown")
        if process and card:
            self.update(_content(process, card, lines))


def _content(process: dict[str, Any], card: dict[str, Any], lines: int) -> Content:
    name, state = process["name"], "will be started again" if process["state"] == "backoff" else "failed"
    parts: list[Any] = [(f"{glyph('failed')} {name} {state}", "bold $text-error"), (f"  {_ending(card)}", "$text-muted"), "\n", clean(str(card.get("cause") or "cause unknown"))]
    if process["state"] == "backoff" and process.get("reason"):
        parts.append((f"\n{clean(str(process['reason']))}", "$text-warning"))
    for line in (card.get("last_lines") or [])[-lines:] if lines > 0 else []:
        parts.append((f"\n{clean(str(line), 300)}", "$text-muted"))
    return Content.assemble(*parts)


def _ending(card: dict[str, Any]) -> str:
    if number := card.get("signal"):
        try:
            return f"ended by {signal.Signals(number).name}"
        except ValueError:
            return f"ended by signal {number}"
    return "exit code unknown" if card.get("exit_code") is None else f"exit code {card['exit_code']}"
