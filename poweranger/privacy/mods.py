"""The mods that every ClientApp of this project has: Flower runs them under nodes of any kind and in simulation."""
from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message

from poweranger.privacy.declared import Next, declared_mod
from poweranger.privacy.dp import dp_mod
from poweranger.privacy.secagg_client import secagg_mod

Mod = Callable[[Message, Context, Next], Message]
MODS: list[Mod] = [declared_mod, secagg_mod, dp_mod]  # a reply passes them from the last to the first
