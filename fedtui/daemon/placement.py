"""How a client is started: forked from the client host or as a process of its own, and on which GPU."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtui.roster import Client

HOST, PROCESS = "host", "process"
CARDS = "CUDA_VISIBLE_DEVICES"

# Variables that Python, TensorFlow or a library below it reads once, when it is loaded.
_NATIVE = ("CUDA_", "DNNL_", "GLIBC_", "KERAS_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "TF_", "XLA_")


@dataclass(frozen=True)
class Placement:
    """Where a client runs.

    Attributes
    ----------
    via : HOST or PROCESS.
    reason : why it is a process of its own.
    gpu : the cards it may use, as `CUDA_VISIBLE_DEVICES` names them; "" for none.
    """

    via: str
    reason: str = ""
    gpu: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What gives the client its card; numbers are those of `nvidia-smi`."""
        return {CARDS: self.gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.gpu else {}


def place(client: Client, client_host: bool, gpus: Sequence[str], taken: Sequence[str]) -> Placement:
    """Place a client: cards go round, and what its own environment says counts more.

    Parameters
    ----------
    client_host : whether the roster allows forks.
    gpus : this machine's cards, from `cards`.
    taken : the cards of the clients that run, one entry a client.
    """
    own = client.env.get(CARDS)
    gpu = min(gpus, key=taken.count, default="") if own is None else ",".join(_listed(own))
    native = [name for name in client.env if name.startswith(_NATIVE) and name != CARDS]
    if not client_host:
        reason = "client-host = false"
    elif gpu:
        reason = "it has a GPU"
    elif native:
        reason = f"its env sets {', '.join(native)}"
    else:
        return Placement(HOST)
    return Placement(PROCESS, reason, gpu)


def cards(environment: Mapping[str, str], devices: str = "/dev") -> list[str]:
    """The NVIDIA cards that processes here may use: those that `environment` names, else by their device files."""
    if CARDS in environment:
        return _listed(environment[CARDS])
    count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir(devices))
    return [str(number) for number in range(count)]


def _listed(value: str) -> list[str]:
    """The cards in a value of `CUDA_VISIBLE_DEVICES`: those before the first that is none, as CUDA reads it."""
    found = []
    for name in (part.strip() for part in value.split(",")):
        if not name or name.startswith("-"):
            break
        found.append(name)
    return found
