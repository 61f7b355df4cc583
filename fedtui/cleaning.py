"""Makes text from outside (log lines, names, CSV headers, titles) harmless and printable for a terminal."""
from __future__ import annotations

import re
import unicodedata

LIMIT = 2000  # characters of a line that are shown

# ECMA-48: CSI with parameters, intermediate and final byte; strings (DCS, SOS, OSC, PM, APC) up to BEL or ST, or only their
# introducer when they have no end; any other ESC sequence. C1 controls stand for ESC and a letter.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])(?:[^\x07\x1b\x90\x98\x9b-\x9f]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]"
)
# Default_Ignorable_Code_Point and blank letters, as far as they count as printable; U+FE0F, which makes an emoji, stays
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0\U000e0100-\U000e01ef]")
_RAW_C1 = {0xDC00 + byte: byte for byte in range(0x80, 0xA0)}  # as `surrogateescape` decodes C1 bytes


def clean(text: str, limit: int = LIMIT) -> str:
    """`text` as one line of printable characters, `limit` of them at most; one cut short ends in "…".

    Escape sequences, controls, bidirectional overrides and invisible characters are taken out, tabs and other white space
    become spaces, and what has no glyph becomes U+FFFD. Accents, CJK and emoji stay.
    """
    text = text.rstrip("\r\n")
    cut = len(text) > 8 * limit  # bounds the work on a huge line
    text = text[: 8 * limit]
    if not text.isprintable():
        text = _SEQUENCE.sub("", text.translate(_RAW_C1))
        text = "".join(char if char.isprintable() else _substitute(char) for char in text.expandtabs())
    text = _INVISIBLE.sub("", text)
    return text[: limit - 1] + "…" if cut or len(text) > limit else text


def _substitute(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\n\r\v\f" or category[0] == "Z":
        return " "
    return "" if category in ("Cc", "Cf") else "\ufffd"
