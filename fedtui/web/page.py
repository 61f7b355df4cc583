"""The one page: a terminal that fills the window and has the keys.

textual-serve's own page takes a font from elsewhere, has script in it, waits for a click before it takes keys, and knows
itself by one address; this one works offline, under a strict policy, and by whatever address a tunnel gives it.
"""
from __future__ import annotations

from html import escape
from string import Template

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/css/xterm.css">
<style>
@font-face { font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf"); font-weight: 100 700; }
@font-face { font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-Italic-VariableFont_wght.ttf"); font-weight: 100 700; font-style: italic; }
html, body, .textual-terminal { height: 100%; margin: 0; overflow: hidden; background: #0f1318; }
p { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; z-index: 20; margin: 0; white-space: pre;
    color: #d5dce4; background: #0f1318; font: 16px "Roboto Mono", monospace; }
a { color: #5cc8ff; }
.over { display: none; }
body.-first-byte .wait, body.-closed .wait { display: none; }
body.-closed .over { display: flex; background: #0f1318e0; }
</style>
<script src="/static/js/textual.js"></script>
<script src="/focus.js" defer></script>
</head>
<body>
<p class="wait">connecting…</p>
<p class="over">This view is closed. What runs goes on. <a href="/">Open it again</a></p>
<div class="textual-terminal" data-session-websocket-url="$websocket" data-font-size="16"></div>
</body>
</html>
""")

# textual.js marks the terminal when it is connected; before that it could not pass on that it has the focus
FOCUS = """\
new MutationObserver((_, watch) => {
  watch.disconnect();
  document.querySelector(".xterm-helper-textarea").focus();
}).observe(document.querySelector(".textual-terminal"), { attributeFilter: ["class"] });
"""


def page(title: str, websocket: str) -> str:
    """The page's HTML; `websocket` is the address at which the interface is to be had."""
    return _PAGE.substitute(title=escape(title), websocket=escape(websocket))
