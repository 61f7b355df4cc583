"""Make the manual pages man/fedtui.1 and man/poweranger.1 of what the two commands say of themselves.

    python docs/make_man.py
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))


def pages() -> dict[str, str]:
    """The pages' texts by file name."""
    return {"fedtui.1": fedtui(), "poweranger.1": poweranger()}


def fedtui() -> str:
    """All commands with their options, from the command line's own declarations."""
    from fedtui.cli.app import app

    root = typer.main.get_command(app)
    summary, _, more = (root.help or "").partition(": ")
    lines = [
        '.TH FEDTUI 1 "" "Federated Health" "User Commands"', ".SH NAME", rf"fedtui \- {plain(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS", r".B fedtui", r"[\fIOPTIONS\fR] [\fICOMMAND\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION", plain(more[0].upper() + more[1:]),
        ".SH OPTIONS", *parameters(root),
        ".SH COMMANDS",
    ]  # fmt: skip
    for words, command in commands(root, "fedtui"):
        lines += [f".SS {plain(words)}{usage(command)}", plain(command.help or ""), *parameters(command)]
    lines += [
        ".SH EXIT STATUS", plain((root.epilog or "").removeprefix("Exit codes: ")),
        ".SH FILES",
        ".TP", r"\fIpyproject.toml\fR", "Run configuration and roster of the project folder, which is the nearest one upwards. fedtui init makes one.",
        ".TP", r"\fIresults/\fR", "What runs write.",
        ".TP", r"\fI$XDG_STATE_HOME/fedtui/\fR", "Socket, lock and log of the daemon; without the variable ~/.local/state/fedtui/.",
        ".SH SEE ALSO", r"\fBpoweranger\fR(1)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def poweranger() -> str:
    """The programs that `poweranger` runs."""
    from poweranger.__main__ import PROGRAMS

    lines = [
        '.TH POWERANGER 1 "" "Federated Health" "User Commands"', ".SH NAME", r"poweranger \- run a program of the federated app",
        ".SH SYNOPSIS", ".B poweranger", r"\fIPROGRAM\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION", r"Each program can be run as \fBpython \-m\fR \fIMODULE\fR, too, and lists its options with \fB\-\-help\fR.",
        ".SH PROGRAMS",
    ]  # fmt: skip
    for name, (module, purpose) in PROGRAMS.items():
        lines += [".TP", rf"\fB{name}\fR", f"{plain(purpose[0].upper() + purpose[1:])}. Module: {plain(module)}."]
    return "\n".join([*lines, ".SH SEE ALSO", r"\fBfedtui\fR(1)"]) + "\n"


def commands(group: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    for name, command in getattr(group, "commands", {}).items():
        if getattr(command, "commands", None):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def usage(command: click.Command) -> str:
    """The arguments behind a command's name."""
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    return "".join(f" {plain(name(argument) if argument.required else f'[{name(argument)}]')}" for argument in arguments)


def parameters(command: click.Command) -> list[str]:
    """The options, and those arguments that need a word."""
    lines = []
    for parameter in command.params:
        explanation = getattr(parameter, "help", None) or ""
        if isinstance(parameter, click.Option) and not parameter.hidden:
            value = "" if parameter.is_flag else rf" \fI{plain(name(parameter))}\fR"
            flags = ", ".join(rf"\fB{plain(flag)}\fR" for flag in [*parameter.opts, *parameter.secondary_opts])
            lines += [".TP", f"{flags}{value}", plain(explanation.rstrip(".") + ".")]
        elif isinstance(parameter, click.Argument) and explanation:
            lines += [".TP", rf"\fI{plain(name(parameter))}\fR", plain(explanation)]
    return lines


def name(parameter: click.Parameter) -> str:
    """What stands for a parameter's value."""
    return (parameter.metavar or str(parameter.name).upper()).strip("[]")


def plain(text: str) -> str:
    """`text` on one line, none of it a request to troff."""
    text = re.sub(r"\s+", " ", text).strip().replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    for file, page in pages().items():
        (PROJECT / "man" / file).write_text(page, encoding="utf-8")
