"""The interface's own colours, for dark and for light terminals. Textual's themes, the terminal's own palette among them, stay."""
from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="fedtui-dark", dark=True, primary="#2f6fb0", secondary="#7aa2c8", accent="#5cc8ff", foreground="#d5dce4", background="#0f1318",
    surface="#161b22", panel="#1e2630", success="#4cd97b", warning="#f2b33d", error="#ff6b6b", luminosity_spread=0.12,
)  # fmt: skip
LIGHT = Theme(
    name="fedtui-light", dark=False, primary="#8fbce8", secondary="#4a6a88", accent="#0b62c4", foreground="#1d232b", background="#fbfcfd",
    surface="#f1f4f7", panel="#e3e9ef", success="#13803c", warning="#a86400", error="#c62828", luminosity_spread=0.12,
)  # fmt: skip
THEMES = (DARK, LIGHT)
