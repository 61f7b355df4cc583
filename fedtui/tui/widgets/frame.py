"""The texts in the frame of a panel."""
from __future__ import annotations

from textual.content import Content
from textual.widget import Widget


def entitle(panel: Widget, title: str, subtitle: str = "") -> None:
    """Set them as they are: Textual takes a `str` for markup. Only when they change, as that paints the whole frame."""
    texts = Content(title), Content(subtitle)
    if (panel.border_title or "", panel.border_subtitle or "") != tuple(text.markup for text in texts):
        panel.border_title, panel.border_subtitle = texts  # type: ignore[assignment]  # the setters take Content
