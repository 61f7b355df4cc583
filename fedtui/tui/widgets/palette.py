"""The colours of lines: distinct from each other and from the background, the same ones on every chart."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.color import Color
from rich.style import Style

if TYPE_CHECKING:
    from textual.app import App

_DARK = ("#4fa3ff", "#ff9f43", "#4cd97b", "#e668c8", "#f5d94e", "#52d6d6", "#ff6b6b", "#b48cff", "#a3c76d", "#d0a27c")
_LIGHT = ("#0b62c4", "#b85c00", "#13803c", "#a8178a", "#7d6a00", "#00757d", "#c62828", "#6a3fc8", "#4f7a12", "#7c5230")
SIGNS = {"braille": ("braille",), "ascii": tuple("*ox+#%@&=v"), "plain": ("braille", *"•x+o#*%@&=")}
_ANSI_LIGHT = ("blue", "yellow", "green", "magenta", "cyan", "red", "bright_blue", "bright_magenta", "bright_green", "bright_red")
_ANSI = ("bright_blue", "bright_yellow", "bright_green", "bright_magenta", "bright_cyan", "bright_red", "blue", "magenta", "green", "red")


def signs(app: App[Any]) -> str:
    """How lines are drawn in this terminal: `plain` is a sign for each where there are no colours to tell them apart."""
    return "ascii" if getattr(app, "ascii", False) else "plain" if app.no_color else "braille"


def sign(kind: str, number: int) -> str:
    """plotext's marker for line `number`."""
    return SIGNS[kind][number % len(SIGNS[kind])]


def swatch(kind: str, number: int) -> str:
    """What stands for the line beside its name."""
    found = sign(kind, number)
    return "━" if found == "braille" else found


def line_style(app: App[Any], number: int, faint: bool = False) -> Style:
    """The style of line `number`, in the theme's world: dark, light, or the terminal's own sixteen colours."""
    theme = app.current_theme
    palette = (_ANSI if theme.dark else _ANSI_LIGHT) if app.native_ansi_color else _DARK if theme.dark else _LIGHT
    colour = Color.parse(palette[number % len(palette)])
    if not faint:
        return Style(color=colour)
    if app.native_ansi_color:
        return Style(color=colour, dim=True)
    from textual.color import Color as Mixed

    background = Mixed.parse(app.theme_variables.get("background", "#121212"))
    return Style(color=background.blend(Mixed.from_rich_color(colour), 0.4).rich_color)


class Colours:
    """Gives each name (a run, a client) a colour number, and keeps to it as others come and go."""

    def __init__(self, numbers: dict[str, int] | None = None) -> None:
        self.numbers = numbers or {}

    def of(self, name: str) -> int:
        """The number of `name`: the least that no other name has when it first comes."""
        if name not in self.numbers:
            taken = set(self.numbers.values())
            self.numbers[name] = next(number for number in range(len(taken) + 1) if number not in taken)
        return self.numbers[name]
