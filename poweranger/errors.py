"""Errors a user can cause. Each is one sentence; every program catches them at one place."""
from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake the user can mend: a sentence that names the file, key or client and says what to do."""

    exit_code = 2


class RunFailed(UserError):
    """The run could not go on, or ended without a usable result."""

    exit_code = 1


class TooFewClients(UserError):
    """Not enough clients came within `client-wait` seconds."""

    exit_code = 3


class PortInUse(UserError):
    """Somebody else listens on the port."""

    exit_code = 4


def escaped(text: str, keep: str = "") -> str:
    """`text` with escapes for what a terminal would act on, or cannot show; the characters in `keep` stay."""
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def run_program(name: str, main: Callable[[], int]) -> None:
    """Run `main` and exit with its code; a `UserError` becomes one sentence on stderr and its exit code.

    The sentence may quote a file, a key or a name: what a terminal would act on is written as an escape.
    """
    try:
        code = main()
    except UserError as error:
        print(f"{name}: {escaped(str(error))}", file=sys.stderr, flush=True)
        code = error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr, flush=True)
        code = 130
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more as it ends
        code = 1
    sys.exit(code)


def _nobody_reads() -> bool:
    """Whether whoever was to read stdout has gone, as `| head` does."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors are told always
    return bool(poll.poll(0))
