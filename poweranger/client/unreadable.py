"""Why a file is no usable image, and the size beyond which none is decoded."""
from __future__ import annotations

MAX_PIXELS = 50_000_000  # of one image: bounds what a decoding thread holds to some 400 MB


class Unreadable(Exception):
    """A file that is no usable image; the text is the reason, and says nothing of what the file holds."""
