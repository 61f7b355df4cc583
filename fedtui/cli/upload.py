"""A run's files to elsewhere, at the user's word: `upload drive`."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from fedtui.cli.context import Json, project
from fedtui.cli.output import say, write, write_json
from fedtui.cli.programs import RunName
from poweranger.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedtui.drive.choice import Chosen
    from fedtui.drive.service import Drive, Remote
    from fedtui.drive.store import Store
    from fedtui.drive.upload import Plan

app = typer.Typer(help="Upload a run's metrics and models, at your word only.", no_args_is_help=True, suggest_commands=False)


@app.callback()
def _group() -> None:
    """Keeps `drive` a command of its own, although it is the only one."""


@app.command("drive")
def drive(
    run: RunName = None,
    what: Annotated[str, typer.Option(metavar="metrics,models", help="Which files beside run.toml.")] = "metrics,models",
    credentials: Annotated[Path | None, typer.Option(metavar="FILE", help="The client secret file of Google's console, for the first time and for another account (docs/drive.md).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be uploaded.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a run's metrics and models to Google Drive. It says first what leaves this machine, and asks."""
    from fedtui.drive.choice import choose, parse_what
    from fedtui.drive.store import Store
    from fedtui.metrics import find_run

    here = project()
    folder = find_run(here.results, run)
    files = choose(folder, parse_what(what))
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    if not (asked or yes or dry_run):
        raise UserError("nobody can be asked here: look at --dry-run, then add --yes")
    if any(importlib.util.find_spec(name) is None for name in ("googleapiclient", "google_auth_oauthlib")):
        raise UserError("upload drive needs Google's client libraries: pip install 'federated-health[drive]'")
    store = Store(here.state)
    with store.alone():
        _upload(folder.name, files, store, credentials, dry_run=dry_run, yes=yes, asked=asked, as_json=as_json)


def _upload(run: str, files: Sequence[Chosen], store: Store, secret: Path | None, *, dry_run: bool, yes: bool, asked: bool, as_json: bool) -> None:
    from fedtui.drive.errors import PermissionGone
    from fedtui.drive.upload import NEW, Plan, Planned, plan

    drive = _connect(store, secret, asked=asked, dry_run=dry_run)
    if drive is None:
        _describe(Plan(run, "", None, tuple(Planned(file, NEW) for file in files)), as_json)
        return
    try:
        found = plan(drive, run, files)
        _describe(found, as_json and dry_run)
        if dry_run:
            return
        if found.to_send and not yes and not _agreed(found):
            say("nothing was uploaded")
            raise typer.Exit(1)
        folder = _send(drive, found, store) if found.to_send else found.folder
    except PermissionGone:
        store.forget_permission()
        raise
    if as_json:
        _describe(found, True, folder)
    elif folder:
        write(folder.link)


def _connect(store: Store, secret: Path | None, *, asked: bool, dry_run: bool) -> Drive | None:
    """The Drive that the stored permission is for, or one given now; None in a dry run without one."""
    from fedtui.drive.login import credentials, log_in, read_client
    from fedtui.drive.patience import Patience
    from fedtui.drive.service import Drive
    from fedtui.drive.store import CLIENT, TOKEN

    if secret is not None and not dry_run:
        client = read_client(secret)
        store.forget_permission()
        store.write(CLIENT, client)
    client, token = store.read(CLIENT), store.read(TOKEN).get("refresh_token")
    if not token and dry_run:
        return None
    if not client:
        raise UserError("no client secret file is known yet: --credentials FILE names it, docs/drive.md says where to get one")
    if not token:
        if not asked:
            raise UserError("there is no permission to upload yet: run this command once in a terminal")
        token = log_in(client, say)
        store.write(TOKEN, {"refresh_token": token})
    return Drive(credentials(client, token), Patience(say))


def _describe(plan: Plan, as_json: bool, folder: Remote | None = None) -> None:
    """Say what leaves this machine, and where it goes; as JSON on stdout."""
    folder = folder or plan.folder
    if as_json:
        files = [{"file": planned.file.name, "bytes": planned.file.size, "state": planned.state} for planned in plan.files]
        write_json({"run": plan.run, "account": plan.account or None, "folder": folder.link if folder else None, "files": files})
        return
    place = f"Google Drive of {plan.account or 'an account that is not known yet'}, folder {plan.run}"
    there = len(plan.files) - len(plan.to_send)
    if not plan.to_send:
        say(f"nothing to upload: all {there} files are there ({place})")
        return
    say(f"to leave this machine, for {place}:")
    wide = max(len(planned.file.name) for planned in plan.to_send)
    for planned in plan.to_send:
        say(f"  {planned.file.name:{wide}}  {_size(planned.file.size):>10}  {planned.state}")
    if there:
        say(f"there already: {there} files")


def _agreed(plan: Plan) -> bool:
    size = _size(sum(planned.file.size for planned in plan.to_send))
    try:
        return click.confirm(f"Upload {len(plan.to_send)} files, {size}?", err=True)
    except click.Abort:  # Ctrl+C, Ctrl+D
        say("")
        return False


def _send(drive: Drive, plan: Plan, store: Store) -> Remote:
    """Upload with a progress bar, drawn when a chunk has arrived; off a terminal a line a file."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from fedtui.drive.upload import upload

    sizes = {planned.file.name: planned.file.size for planned in plan.to_send}
    arrived = dict.fromkeys(sizes, 0)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=sum(sizes.values()))

        def advance(file: Chosen, count: int) -> None:
            arrived[file.name] = count
            progress.update(task, description=file.name, completed=sum(arrived.values()), refresh=True)
            if progress.disable and count == file.size:
                say(f"{file.name} has arrived")

        folder = upload(drive, plan, store, advance)
    say(f"{len(sizes)} files uploaded, checksums agree")
    return folder


def _size(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)
