"""NVFlare in an environment of its own: what it needs must not decide what this project gets."""
from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from poweranger.errors import UserError

VERSION = "2.9.0"
SHARED = ("tensorflow", "keras", "numpy", "pillow")  # in this project's versions: the training has to be the same


def python() -> Path:
    """Its interpreter; the first time it is installed, which takes minutes and 2.3 GB.

    Raises
    ------
    UserError
        When it cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "federated-health-benchmarks" / f"nvflare-{VERSION}"
    interpreter, complete = home / "bin" / "python", home / "complete"
    wanted = [f"nvflare=={VERSION}", *(f"{name}=={version(name)}" for name in SHARED)]
    if complete.exists() and complete.read_text().split() == wanted:
        return interpreter
    print(f"installing {wanted[0]} into {home}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    pip = subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True)
    if pip.returncode:
        reason = next((line for line in reversed(pip.stderr.splitlines()) if line.startswith("ERROR")), "pip failed")
        raise UserError(f"NVFlare could not be installed from the package registry ({reason.removeprefix('ERROR: ')}): "
                        "see to the connection, or name the other systems after --systems")
    complete.write_text("\n".join(wanted))
    return interpreter
