"""A row a client, a column a round: who was asked to train and to evaluate, and what came of it.

      client      answers  usual        5            6            7
    ▸ C1            12/12   5.1s  ▲5.2s ◆0.3s  ▲5.0s        ▲5.1s ◆0.3s
      C2            11/12   5.3s  ▲ 31s!◆0.4s  ✗2.1s        ▲5.3s ◆0.4s
"""
from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from fedtui.tui.glyphs import glyph
from fedtui.tui.rounds import EVAL, FIT, PHASES, Part, Rounds, duration
from fedtui.tui.widgets.listing import fit
from fedtui.tui.widgets.painted import Painted

Piece = tuple[str, str]  # a text, and the component whose style it has
_TONES = {"ok": "ok", "answered": "ok", "waiting": "waiting", "late": "warning", "failed": "error", "excluded": "error"}
_WIDTHS = {"signs": 2, "short": 7, "full": 12}  # of a cell, without the gap
_DENSITIES = tuple(_WIDTHS)


class RoundGrid(Painted, can_focus=True):
    """Shows rounds, the latest ones as long as the cursor stays on the latest.

    Attributes
    ----------
    density : `signs` only, `short` with one duration a cell, `full` with both; empty as fits.
    following : the cursor is on the latest round, and goes along.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"rounds--{part}" for part in ("head", "latest", "name", "muted", "ok", "waiting", "warning", "error", "cursor", "crossed")
    }
    DEFAULT_CSS = """
    RoundGrid {
        & > .rounds--head { color: $text-muted; text-style: bold; }
        & > .rounds--latest { color: $accent; text-style: bold; }
        & > .rounds--name { color: $foreground; }
        & > .rounds--muted { color: $text-muted; }
        & > .rounds--ok { color: $success; }
        & > .rounds--waiting { color: $accent; text-style: bold; }
        & > .rounds--warning { color: $warning; }
        & > .rounds--error { color: $error; text-style: bold; }
        & > .rounds--crossed { color: $foreground; text-style: bold; }
        & > .rounds--cursor { background: $surface-lighten-2; }
        &:focus > .rounds--cursor { background: $primary; color: $text; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(0, -1)", "round", key_display="←→"),
        Binding("right", "move(0, 1)", "next round", show=False),
        Binding("up,k", "move(-1, 0)", "client", key_display="↑↓"),
        Binding("down,j", "move(1, 0)", "next client", show=False),
        Binding("g,home", "move(0, -1000000)", "first round", show=False),
        Binding("G,end", "move(0, 1000000)", "latest round", show=False),
        Binding("pageup", "page(-1)", "earlier rounds", show=False),
        Binding("pagedown", "page(1)", "later rounds", show=False),
        Binding("enter", "open", "its log"),
        Binding("minus", "dense(-1)", "denser", key_display="-+"),
        Binding("plus,equals_sign", "dense(1)", "wider", show=False),
    ]

    class Moved(Message):
        """The cursor is on another cell, or another thing stands there."""

    class Opened(Message):
        """Somebody wants to see the log at this cell."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.rounds = Rounds()
        self.density = ""
        self._client = self._round = self._top = self._begin = 0
        self.following = True

    def put(self, rounds: Rounds) -> None:
        """Show these rounds; the cursor stays where it was, or on the latest round."""
        client, number = self.cell or ("", None)
        higher = len(rounds.clients) != len(self.rounds.clients)
        self.rounds = rounds
        self._client = rounds.clients.index(client) if client in rounds.clients else min(self._client, max(len(rounds.clients) - 1, 0))
        if self.following or number not in rounds.rounds:
            self._round = max(len(rounds.rounds) - 1, 0)
        else:
            self._round = rounds.rounds.index(number)
        if higher:
            self.refresh(layout=True)
        self.redraw()
        self.post_message(self.Moved())

    @property
    def cell(self) -> tuple[str, int] | None:
        """Client and round under the cursor."""
        rounds = self.rounds
        return (rounds.clients[self._client], rounds.rounds[self._round]) if rounds.clients and rounds.rounds else None

    def go(self, client: str | None = None, number: int | None = None) -> None:
        """Put the cursor on a client and a round, as far as there are such."""
        client_index = self.rounds.clients.index(client) if client in self.rounds.clients else self._client
        self._move_to(client_index, self.rounds.rounds.index(number) if number in self.rounds.rounds else self._round)

    def action_move(self, clients: int, rounds: int) -> None:
        """Move the cursor."""
        self._move_to(self._client + clients, self._round + rounds)

    def action_page(self, by: int) -> None:
        """Move the cursor by the rounds that are visible."""
        self._move_to(self._client, self._round + by * self._room)

    def action_dense(self, by: int) -> None:
        """Show more rounds with less about each, or the other way round."""
        place = _DENSITIES.index(self._density) + by
        self.density = _DENSITIES[min(max(place, 0), len(_DENSITIES) - 1)]
        self.redraw()

    def action_open(self) -> None:
        """Ask for the log at the cursor."""
        if self.cell is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """Go to the cell; a second click is like enter."""
        offset = event.get_content_offset(self)
        if offset is None or not self.rounds.clients:
            return
        column = (offset.x - self._left) // (_WIDTHS[self._density] + 1)
        client, number = self._top + offset.y - 1, self._begin + column
        if 0 <= client < len(self.rounds.clients) and offset.x >= self._left and 0 <= number < len(self.rounds.rounds):
            self._move_to(client, number)
            if event.chain > 1:
                self.action_open()

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """The head and a line a client."""
        return 1 + max(len(self.rounds.clients), 1)

    def paint(self) -> list[Strip]:
        """The head and a row a client, as far as there is room."""
        self._scroll()
        rounds, width = self.rounds, _WIDTHS[self._density]
        visible = rounds.rounds[self._begin : self._begin + self._room]
        here = self.cell
        head: list[Piece] = [(f"  {'CLIENT':{self._name_width}}  ", "head")]
        head += [("ANSWERS  USUAL  ", "head")] if self._wide else []
        for number in visible:
            tone = "latest" if number == rounds.going else "crossed" if here and number == here[1] else "head"
            text = f"{number}{glyph('best')}" if number == rounds.best else f"{number}"
            head.append((f"{text if len(text) <= width else number:<{width}} ", tone))
        rows = [self._strip(head)]
        for client in rounds.clients[self._top : self._top + self.size.height - 1]:
            chosen = here is not None and client == here[0]
            name = fit(client, self._name_width)
            pieces: list[Piece] = [(f"{glyph('cursor') if chosen else ' '} ", "latest"), (f"{name}  ", "crossed" if chosen else "name")]
            if self._wide:
                good, asked, usual = rounds.answers[client]
                pieces += [(f"{f'{good}/{asked}':>7}  ", "muted" if good == asked else "warning"), (f"{duration(usual):>5}  ", "muted")]
            for number in visible:
                cell = self._cell(client, number)
                pieces += [(text, "cursor") for text, _ in cell] if (client, number) == here else cell
                pieces.append((" ", "muted"))
            rows.append(self._strip(pieces))
        return rows

    def _cell(self, client: str, number: int) -> list[Piece]:
        """The pieces of a cell, of the width of the density together."""
        fit, evaluation = (self.rounds.parts.get((client, number, phase)) for phase in PHASES)
        if self._density == "signs":
            return [*_piece(fit, FIT, 1), *_piece(evaluation, EVAL, 1)]
        if self._density == "short":
            return [*_piece(fit, FIT, 6), *_piece(evaluation, EVAL, 1)]
        return [*_piece(fit, FIT, 6), *_piece(evaluation, EVAL, 6)]

    def _strip(self, pieces: list[Piece]) -> Strip:
        styles: dict[str, Style] = {}
        for _, tone in pieces:
            if tone not in styles:
                styles[tone] = self.get_component_rich_style(f"rounds--{tone}")
        return Strip(Segment.simplify(Segment(text, styles[tone]) for text, tone in pieces)).crop(0, self.size.width)

    @property
    def _name_width(self) -> int:
        longest = max((cell_len(client) for client in self.rounds.clients), default=0)
        return min(max(longest, 6), 24 if self.size.width > 100 else 14)

    @property
    def _wide(self) -> bool:
        """Whether there is room for what a client did over all rounds."""
        return self.size.width >= 70

    @property
    def _left(self) -> int:
        return 2 + self._name_width + 2 + (16 if self._wide else 0)

    @property
    def _density(self) -> str:
        if self.density in _WIDTHS:
            return self.density
        space = self.size.width - self._left
        return next((density for density in ("full", "short") if (_WIDTHS[density] + 1) * len(self.rounds.rounds) <= space), "short")

    @property
    def _room(self) -> int:
        """How many rounds fit."""
        return max(1, (self.size.width - self._left + 1) // (_WIDTHS[self._density] + 1))

    def _move_to(self, client: int, number: int) -> None:
        rounds = self.rounds
        if not rounds.clients or not rounds.rounds:
            return
        self._client = min(max(client, 0), len(rounds.clients) - 1)
        self._round = min(max(number, 0), len(rounds.rounds) - 1)
        self.following = self._round == len(rounds.rounds) - 1
        self.redraw()
        self.post_message(self.Moved())

    def _scroll(self) -> None:
        """Move what is visible so that the cursor is in it."""
        room, lines = self._room, max(self.size.height - 1, 1)
        self._begin = min(max(self._begin, self._round - room + 1), self._round, max(len(self.rounds.rounds) - room, 0))
        self._top = min(max(self._top, self._client - lines + 1), self._client, max(len(self.rounds.clients) - lines, 0))


def _piece(part: Part | None, phase: str, width: int) -> list[Piece]:
    """Sign and duration of a part, `width` cells wide: the sign tells the phase when all is well, else what went wrong."""
    if part is None:
        return [(" " * width, "muted")]
    tone = _TONES.get(part.outcome, "muted")
    sign = glyph(phase if part.outcome in ("ok", "answered") else part.outcome)
    if width == 1:
        return [(glyph("straggler") if part.straggles else sign, "warning" if part.straggles else tone)]
    beyond = "warning" if part.straggles else "muted" if tone == "ok" else tone
    mark = glyph("straggler") if part.straggles else " "
    return [(sign, tone), (f"{duration(part.seconds):<4}{mark}", beyond)]
