"""How a program ends when its user made a mistake, or does not listen any more."""
from __future__ import annotations

import subprocess
import sys

START = "from poweranger.errors import UserError, run_program\n"


def test_what_a_mistake_quotes_does_not_act_on_the_terminal() -> None:
    code = START + "def main(): raise UserError('no key \\x1b]0;title\\x07\\n\\u202e, but für')\nrun_program('server', main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "server: no key \\x1b]0;title\\x07\\n\\u202e, but für\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    code = START + "def main():\n    while True: print('a row' * 100)\nrun_program('predict', main)"
    done = subprocess.run(["sh", "-c", '{ "$0" -c "$1"; echo $? >&2; } | head -1', sys.executable, code], capture_output=True, text=True)
    assert (done.stdout.count("a row"), done.stderr) == (100, "1\n")
