"""The mods that every ClientApp of this project has: Flower runs them under nodes of any kind and in simulation."""
from __future__ import annotations

from poweranger.privacy.declared import declared_mod
from poweranger.privacy.dp import dp_mod
from poweranger.privacy.secagg_client import secagg_mod

MODS = [declared_mod, secagg_mod, dp_mod]  # a reply passes them from the last to the first
