"""The command `poweranger`: `poweranger NAME ...` is `python -m MODULE ...` of the program called NAME."""
from __future__ import annotations

import os
import sys

PROGRAMS = {
    "server": ("poweranger.server.server_app", "run one federated training and end"),
    "client": ("poweranger.client.standalone_client", "one site of the federation"),
    "simulation": ("poweranger.simulation", "server and virtual clients on this machine"),
    "data": ("poweranger.client.data_loader", "describe images before they are used"),
    "partition": ("poweranger.client.partition", "deal one folder of images out to sites"),
    "evaluate": ("poweranger.evaluate", "a run's model on images that took no part in it"),
    "predict": ("poweranger.predict", "what a run's model says of images"),
    "export": ("poweranger.export", "a run's model as a file for other programs"),
}


def usage() -> str:
    """The programs with their modules, a line each."""
    lines = [f"  {name:<11} {module:<36} {purpose}" for name, (module, purpose) in PROGRAMS.items()]
    return "\n".join(["usage: poweranger PROGRAM ...", "", *lines, "", "`poweranger PROGRAM --help` lists a program's options; `python -m MODULE` is the same."])


def main() -> None:
    """Become the program that the first word names; exit code 2 when there is none of that name."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name in ("-h", "--help"):
        print(usage())
    elif name in PROGRAMS:
        os.execv(sys.executable, [sys.executable, "-m", PROGRAMS[name][0], *rest])
    else:
        print(f"poweranger: there is no program {name!r}\n{usage()}" if name else usage(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
