"""The images of each class in a folder, as bars."""
from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from fedtui.cleaning import clean
from fedtui.data_folder import ClassCounts
from fedtui.tui.glyphs import MUTED, bar, glyph

LONE = "one class only: each class has a folder of its own, is it one of those above or below that is meant?"


class ClassCountsView(Widget):
    """Counts, or a sentence instead; classes that do not fit are summed up."""

    DEFAULT_CSS = "ClassCountsView { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._counts, self._text, self._tone = ClassCounts(), "", ""

    def show(self, counts: ClassCounts) -> None:
        """Show counts, perhaps not complete yet."""
        self._counts, self._text = counts, ""
        self.refresh()

    def say(self, text: str, tone: str = MUTED) -> None:
        """Show a sentence."""
        self._text, self._tone = clean(text), tone
        self.refresh()

    def render(self) -> Content:
        """A line a class, and the sum."""
        if self._text:
            return Content.styled(self._text, self._tone)
        counts, width = self._counts, self.size.width
        state = "" if counts.complete else f"counting{glyph('more')} "
        others = f", {counts.others} other files" if counts.others else ""
        total = Content.styled(f"{state}{counts.total} images in {len(counts.classes)} class{'' if len(counts.classes) == 1 else 'es'}{others}", "bold")
        names = list(counts.classes.items())
        room = max(self.size.height - 3, 1)
        rest = names[room - 1 :] if len(names) > room else []
        shown = names[: room - 1] if rest else names
        if rest:
            shown.append((f"{len(rest)} more classes", sum(number for _, number in rest)))
        longest = min(max((len(clean(name)) for name, _ in shown), default=0), max(width // 2 - 4, 6))
        digits = max((len(str(number)) for _, number in shown), default=1)
        most, room = max((number for _, number in shown), default=1) or 1, max(width - longest - digits - 3, 0)
        lines = [
            Content.assemble(clean(name, longest + 1)[:longest].ljust(longest), f" {number:>{digits}} ", (bar(number / most, room), "$accent"))
            for name, number in shown
        ]
        lone = counts.complete and len(counts.classes) == 1
        return Content("\n").join([*lines, total, *([Content.styled(LONE, "$warning")] if lone else [])])
