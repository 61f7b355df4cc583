"""What the daemon under test supervises: `python actor.py NAME PART FOLDER` plays a part; FOLDER is the project."""
from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from poweranger.notify import notify

NAME, PART, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def sleep_on() -> None:
    while True:
        time.sleep(3600)


def wait_for(name: str) -> None:
    while not (FOLDER / name).exists():
        time.sleep(0.02)


def works() -> None:
    signal.signal(signal.SIGTERM, lambda *_: (print(f"2026-11-25 14:00:00 {NAME} stopped", flush=True), os._exit(0)))
    print(f"{NAME} begins", flush=True)
    notify(READY=1, STATUS="begins")
    notify(STATUS="round 3 of 10")
    sleep_on()


def slow() -> None:
    wait_for("go")
    works()


def listens() -> None:
    wait_for("go")
    server = socket.create_server(("127.0.0.1", int((FOLDER / "port").read_text())))
    notify(READY=1)
    (FOLDER / "listening").touch()
    sleep_on()
    server.close()


def ends() -> None:
    notify(READY=1)
    wait_for("end")
    sys.exit(int((FOLDER / "end").read_text()))


def ignores_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    notify(READY=1)
    sleep_on()


def is_another_s() -> None:
    notify(READY=1)
    os.setuid(65534)
    sleep_on()


def has_another_s_child() -> None:
    if os.fork() == 0:
        (FOLDER / "child").write_text(str(os.getpid()))
        os.setuid(65534)
        sleep_on()
    wait_for("child")
    works()


def has_grandchild() -> None:
    """A grandchild in a session of its own, whose parent is gone, and which ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (FOLDER / "grandchild").write_text(str(os.getpid()))
            sleep_on()
        os._exit(0)
    os.wait()
    wait_for("grandchild")
    notify(READY=1)
    sleep_on()


def fails() -> None:
    print("loading", flush=True)
    raise RuntimeError("the images are gone")


def misconfigured() -> None:
    print("client: classes = \"a\" needs two or more different names", file=sys.stderr, flush=True)
    sys.exit(2)


def floods() -> None:
    """Numbered lines as fast as it can until told."""
    notify(READY=1)
    number = 0
    while not (FOLDER / "end").exists():
        lines = b"".join(b"line %09d %s\n" % (number + i, b"x" * 80) for i in range(2000))
        os.write(1, lines[: len(lines) // 2 + 7])  # a line in two pieces
        os.write(1, lines[len(lines) // 2 + 7 :])
        number += 2000
        time.sleep(0.02)  # about 8 MB/s
    (FOLDER / "written").write_text(str(number))
    sleep_on()


def trains(mb_a_second: float = 0.0, gently: bool = True) -> None:
    """Takes memory, and leaves it when it is told to finish; SIGTERM ends it at once."""
    if gently:
        signal.signal(signal.SIGUSR1, lambda *_: (wait_for("finish"), print(f"{NAME} has finished", flush=True), os._exit(0)))
    else:
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    notify(READY=1)
    notify(STATUS="round 1, training")
    kept = [b"x" * (30 << 20)]
    while True:
        time.sleep(0.1)
        if (FOLDER / "go").exists():
            kept.append(b"x" * int(mb_a_second / 10 * (1 << 20)))


def leaks() -> None:
    trains(50)


def leaks_and_stays() -> None:
    trains(30, gently=False)


def prints_rubbish() -> None:
    os.write(1, b"\x00\x1b]52;c;aGk=\x07\xff\xfe\n" + b"y" * 10_000_000 + b"\n\xe2\x82\xac\n")
    print("last words \x1b[31mred\u202e", flush=True)
    sys.exit(3)


globals()[PART]()
