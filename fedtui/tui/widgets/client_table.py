"""Each client's figures of one metric, so that an outlying site is seen at once."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from fedtui.tui.figures import FIRST_CLIENT, ClientFigures
from fedtui.tui.widgets.listing import Cell, Column, Listing, Row
from fedtui.tui.widgets.palette import Colours, line_style, signs, swatch
from fedtui.tui.widgets.scale import number

BAR = 21  # cells of the bar of distances, its middle included


class ClientTable(Listing):
    """A row a client: last value, best value, and how far it is from the mean."""

    DEFAULT_CSS = "ClientTable { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "to the front")]

    def __init__(self, colours: Colours, *, id: str | None = None, classes: str | None = None) -> None:
        columns = (
            Column("", 1),
            Column("CLIENT", 24, 8),
            Column("IMAGES", 9, right=True, beyond=70),
            Column("LAST", 9, 7, right=True),
            Column("ROUND", 6, right=True, beyond=64),
            Column("BEST", 9, 7, right=True),
            Column("ROUND", 6, right=True, beyond=64),
            Column("FROM MEAN", 10, 9, right=True),
            Column("LESS      ·      MORE", BAR, BAR, beyond=90),
            Column("", 0, beyond=50),
        )
        super().__init__(columns, "no client has reported this metric yet", id=id)
        self.set_classes(classes or "")
        self._colours = colours

    def show(self, figures: Sequence[ClientFigures]) -> None:
        """Show these clients."""
        largest = max((abs(one.distance) for one in figures), default=0.0)
        self.put([Row(one.client, self._cells(one, largest)) for one in figures])

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """The head and a line a client."""
        return 1 + max(len(self.rows), 1)

    def _cells(self, one: ClientFigures, largest: float) -> tuple[Cell, ...]:
        colour = FIRST_CLIENT + self._colours.of(one.client)
        ink = str(line_style(self.app, colour))
        tone = "error" if one.outlying else "muted"
        return (
            (swatch(signs(self.app), colour), ink),
            one.client,
            "" if one.examples is None else f"{one.examples}",
            (number(one.last), "strong"),
            (f"@{one.round}", "muted"),
            number(one.best),
            (f"@{one.best_round}", "muted"),
            (f"{one.distance:+.3g}", tone),
            (distance_bar(one.distance, largest), tone if one.outlying else "accent"),
            ("▲ outlying", "error") if one.outlying else ("worst", "muted") if one.worst else "",
        )


def distance_bar(distance: float, largest: float, width: int = BAR) -> str:
    """A bar from the middle to the left for a negative distance, to the right for a positive one."""
    half = width // 2
    length = round(min(abs(distance) / largest, 1.0) * half) if largest > 0 else 0
    left, right = ("━" * length, "") if distance < 0 else ("", "━" * length)
    return f"{left:>{half}}│{right:<{half}}"
