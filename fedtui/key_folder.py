"""Where the keys of a federation over several machines lie. Nothing here reads them.

    keys/ca.key, ca.pem           the certificate authority; `ca.key` is on the server's machine only and never leaves it
    keys/server.key, server.pem   the server's certificate
    keys/clients/C1.pub           who may join: the server's `--client-keys`
    keys/private/C1.key           a client's own key
    keys/revoked/C1.pub           who may not any more

A site has `ca.pem` and its own `private/` only.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from poweranger.errors import UserError


@dataclass(frozen=True)
class KeyFolder:
    """The folder `keys/` of a project."""

    path: Path

    @property
    def ca_key(self) -> Path:
        """The authority's private key."""
        return self.path / "ca.key"

    @property
    def ca(self) -> Path:
        """The authority's certificate, which every client checks the server's with."""
        return self.path / "ca.pem"

    @property
    def server_key(self) -> Path:
        """The server's private key."""
        return self.path / "server.key"

    @property
    def server(self) -> Path:
        """The server's certificate."""
        return self.path / "server.pem"

    @property
    def clients(self) -> Path:
        """The folder of the public keys that may join."""
        return self.path / "clients"

    @property
    def revoked(self) -> Path:
        """The folder of the public keys that may not join any more."""
        return self.path / "revoked"

    def private(self, name: str) -> Path:
        """A client's private key."""
        return self.path / "private" / f"{name}.key"

    def server_options(self) -> list[str]:
        """What the server is started with; nothing where there are no keys. One that lacks some refuses to start, rather than do without."""
        if not any(path.exists() for path in (self.ca_key, self.ca, self.server)):
            return []
        return ["--certfile", str(self.server), "--keyfile", str(self.server_key), "--client-keys", str(self.clients)]

    def client_options(self, name: str) -> list[str]:
        """What a client is started with; nothing where there are no keys."""
        key = self.private(name)
        if not self.ca.exists() and not key.exists():
            return []
        return ["--root-certificates", str(self.ca), *(["--private-key", str(key)] if key.exists() else [])]

    def check_clients(self, names: Iterable[str]) -> None:
        """Refuse clients that the server would refuse, for want of a key."""
        lacking = [name for name in names if self.ca.exists() and not self.private(name).exists()]
        if not lacking:
            return
        remedy = f"`fedtui keys add {' '.join(lacking)}` makes it" if self.ca_key.exists() else "import the file that the server's operator exports for it"
        raise UserError(f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no key in {self.path}: {remedy}")
