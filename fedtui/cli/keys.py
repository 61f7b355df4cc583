"""Keys of a federation over several machines: `keys init`, `add`, `export`, `import`, `list`, `renew` and `revoke`."""
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedtui.cli.context import Json, project
from fedtui.cli.output import say, write_json, write_table
from poweranger.errors import UserError
from poweranger.files import write_new

app = typer.Typer(help="Make, hand out and take back the keys of a federation over several machines.", no_args_is_help=True, suggest_commands=False)
Hosts = Annotated[list[str] | None, typer.Option("--name", metavar="HOST|IP", help="What the sites call the server by; may be given again.")]
Clients = Annotated[list[str], typer.Argument(metavar="CLIENT...")]
NOTICE_S = 20  # a client calls at least so often


@app.command("init")
def init(name: Hosts = None) -> None:
    """Make a certificate authority, the server's certificate and a key for each client of the roster."""
    from fedtui import keys

    found = project()
    clients = keys.init(found, name or [])
    say(f"made {found.keys.path}: an authority, and the server's certificate for {', '.join(keys.server_names(found))}")
    say(f"clients with a key: {', '.join(clients) or 'none yet'} (`fedtui keys add` makes more, `fedtui keys export` packs one for its site)")
    _hint_address(name or [])


@app.command("add")
def add(clients: Clients) -> None:
    """Make a key for a client. A server that runs lets it in at once."""
    from fedtui import keys

    keys.add(project(), clients)
    for name in clients:
        say(f"{name} may join: `fedtui keys export {name}` packs what its site needs")


@app.command("export")
def export(
    client: Annotated[str, typer.Argument(metavar="CLIENT")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file; else CLIENT.keys.toml here.")] = None,
) -> None:
    """Pack what a client's site needs into one file: its key, the authority's certificate, the server's address."""
    from fedtui import keys

    packed = keys.export(project(), client)
    path = output or Path(f"{client}.keys.toml")
    try:
        write_new(path, keys.export_text(packed))
    except FileExistsError:
        raise UserError(f"{path} exists already: delete it, or give another file with -o") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    say(f"wrote {path} for {client}, which will call {packed.server_address}. It holds a private key: send it on a safe way, "
        "`fedtui keys import` at the site, then delete it")
    _hint_address([packed.server_address])


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    data_dir: Annotated[str | None, typer.Option(metavar="D", help="The client's folder of class folders, or .npz file.")] = None,
) -> None:
    """Make this project the site of a server: take an exported file, and set server-address, role and client in pyproject.toml."""
    from fedtui import keys
    from fedtui.cli.clients import stored_path
    from fedtui.config_edit import become_site

    found, packed = project(), keys.read_export(file)
    where = None if data_dir is None else stored_path(data_dir, found.root)
    keys.take_in(found, packed)
    become_site(found, packed.server_address, packed.client, where)
    say(f"this is the site {packed.client} of {packed.server_address} now: `fedtui up` starts its client. Delete {file}")
    client = next(client for client in found.roster().clients if client.name == packed.client)
    if client.data_dir is None:
        say(f"{packed.client} has no images yet and would make synthetic ones: import again with --data-dir D", "yellow")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List certificates and clients' keys, and when they end."""
    from fedtui import keys

    rows = keys.list_keys(project())
    if as_json:
        write_json([asdict(row) for row in rows])
        return
    cells = [{**asdict(row), "ends": f"{row.ends:%Y-%m-%d}" if row.ends else ""} for row in rows]
    write_table(cells, {"name": "NAME", "kind": "KIND", "state": "STATE", "ends": "ENDS", "detail": "FOR"}, "no keys yet: `fedtui keys init` makes them")


@app.command("renew")
def renew(client: Annotated[str | None, typer.Argument(metavar="[CLIENT]")] = None, name: Hosts = None) -> None:
    """Make the server's certificate anew, or the key of a client."""
    from fedtui import keys

    found = project()
    if client is not None:
        if name:
            raise UserError("--name belongs to the server's certificate: leave out the client, or the names")
        keys.renew_client(found, client)
        say(f"{client} has a new key, and the old one does not count any more: `fedtui keys export {client}`, then import it at the site")
        return
    authority = keys.renew_server(found, name or [])
    say(f"the server's certificate is new, for {', '.join(keys.server_names(found))}: it counts from the server's next start")
    if authority:
        say("the authority's certificate is new, too: export every client again, and import it at its site within the old one's time")


@app.command("revoke")
def revoke(client: Annotated[str, typer.Argument(metavar="CLIENT")]) -> None:
    """Take a client's key back: it may not join any more."""
    from fedtui import keys

    keys.revoke(project(), client)
    say(f"{client} is out: a server that runs refuses its next call, which comes within {NOTICE_S} s")


def _hint_address(names: list[str]) -> None:
    """Sites cannot reach a server that listens on loopback only."""
    roster = project().roster()
    if names and roster.host in ("localhost", "127.0.0.1", "::1"):
        say(f'the server listens on {roster.server_address} only: set server-address = "0.0.0.0:{roster.port}" in [tool.fedtui] for other machines', "yellow")
