"""Adapter to Flower's SuperLink: its state and Fleet API inside the server's process.

Private names of Flower live in this package and in `client/node.py` only; tests/poweranger/test_flower_contract.py
says what changed when Flower does.
"""
from poweranger.server.superlink.fab import Fab, build_fab
from poweranger.server.superlink.grid import LocalGrid
from poweranger.server.superlink.link import Link

__all__ = ["Fab", "Link", "LocalGrid", "build_fab"]
