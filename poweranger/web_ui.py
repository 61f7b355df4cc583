"""Tells how the interface is opened in a browser: `python -m poweranger.web_ui`. `fedtui web` is what serves it."""
from __future__ import annotations

import argparse

HOW = """\
The interface in a browser is served by the control centre. In the project's folder:

    fedtui web                   prints an address with a token; that opens it
    fedtui web --read-only       for those who only look on
    fedtui web --port 5001       when port 5000 is in use

On a machine that you reach over SSH, it also prints the `ssh -L` line that brings the port to yours.
"""


def main() -> None:
    """Print it."""
    argparse.ArgumentParser("python -m poweranger.web_ui", description=__doc__).parse_args()
    print(HOW, end="")


if __name__ == "__main__":
    main()
