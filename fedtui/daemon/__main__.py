"""`python -m fedtui.daemon --project DIR`: the daemon in the foreground. `fedtui` starts it so when it needs one."""
from __future__ import annotations

import argparse
from pathlib import Path

from fedtui.daemon.run import run
from fedtui.project import Project
from poweranger.errors import run_program


def main() -> int:
    """Run until the daemon ends."""
    parser = argparse.ArgumentParser("python -m fedtui.daemon", description=__doc__)
    parser.add_argument("--project", type=Path, default=None, help="folder of pyproject.toml (default: found from the current one)")
    run(Project.find(parser.parse_args().project))
    return 0


if __name__ == "__main__":
    run_program("daemon", main)
