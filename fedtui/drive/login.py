"""OAuth 2.0 for a program on a machine without a browser (RFC 8252): an address to open elsewhere, an answer on loopback.

Google no longer lets one copy a code by hand, so the browser has to reach this machine's loopback: through an SSH
port-forward when it runs on another one. State and PKCE (RFC 7636) bind the answer to this login.
"""
from __future__ import annotations

import hmac
import http.server
import json
import queue
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from google.oauth2.credentials import Credentials
from google_auth_oauthlib.flow import InstalledAppFlow
from oauthlib.oauth2 import OAuth2Error

from fedtui.drive.errors import UploadFailed
from fedtui.web.address import tunnel
from poweranger.errors import UserError

SCOPE = "https://www.googleapis.com/auth/drive.file"  # files that this program made, and no others
WAIT_S = 300.0
ANSWER_S = 30.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NEEDED = ("client_id", "client_secret", "auth_uri", "token_uri")


def read_client(path: Path) -> dict[str, str]:
    """The OAuth client of the file that Google's console gives.

    Raises
    ------
    UserError
        When it cannot be read, or is for another kind of program.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"--credentials {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"--credentials {path} is no JSON: give the file that Google's console downloads (docs/drive.md)") from None
    client = content.get("installed") if isinstance(content, dict) else None
    if not isinstance(client, dict) or not all(isinstance(client.get(name), str) for name in NEEDED):
        raise UserError(f"--credentials {path} is not of an OAuth client of the type 'Desktop app': make one (docs/drive.md)")
    for name in ("auth_uri", "token_uri"):
        address = urllib.parse.urlsplit(client[name])
        if address.scheme != "https" and address.hostname not in LOOPBACK:
            raise UserError(f"--credentials {path}: {name} has to begin with https://")
    return {name: client[name] for name in NEEDED}


def credentials(client: Mapping[str, str], refresh_token: str) -> Credentials:
    """What signs the calls; the first one fetches an access token, which is never stored."""
    return Credentials(
        None, refresh_token=refresh_token, token_uri=client["token_uri"], client_id=client["client_id"], client_secret=client["client_secret"],
        scopes=[SCOPE],
    )  # fmt: skip


def log_in(client: Mapping[str, str], say: Callable[[str], object], wait_s: float = WAIT_S) -> str:
    """Let the user give the permission in a browser; the refresh token.

    Parameters
    ----------
    say : shows a line; the address among them is to be opened in a browser.
    wait_s : seconds until it gives up.

    Raises
    ------
    UploadFailed
        When the permission is refused, or not given in time.
    """
    flow = InstalledAppFlow.from_client_config({"installed": dict(client)}, [SCOPE], autogenerate_code_verifier=True)
    with _Listener() as listener:
        flow.redirect_uri = f"http://127.0.0.1:{listener.port}/"
        address, listener.state = flow.authorization_url(access_type="offline", prompt="consent")
        say(f"If your browser runs on another machine, first run there: {tunnel('127.0.0.1', listener.port)}")
        say("Open this address in the browser, choose the account, and allow it:")
        say(address)
        say(f"Waiting for {wait_s / 60:.0f} minutes; Ctrl+C ends it.")
        answer = listener.wait(wait_s)
    if "code" not in answer:
        raise UploadFailed(f"Google gave no permission ({answer.get('error', 'no code')}): nothing was uploaded")
    try:
        token: dict[str, Any] = flow.fetch_token(code=answer["code"], timeout=ANSWER_S)
    except (OAuth2Error, requests.RequestException, Warning) as error:  # a Warning is oauthlib's way to refuse another scope
        raise UploadFailed(f"Google gave no permission ({error}): try again") from None
    if not token.get("refresh_token"):
        raise UploadFailed("Google gave a permission for one hour only: the OAuth client has to be of the type 'Desktop app'")
    return str(token["refresh_token"])


class _Listener:
    """A web server on a free port of 127.0.0.1 that waits for the one request which has the right state."""

    def __init__(self) -> None:
        self.state = ""
        self._answers: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10  # a connection that a browser opens ahead and never uses

            def do_GET(self) -> None:
                good = listener._take(self.path)
                self.send_response(200 if good else 404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(b"Done: go back to the terminal; this page can be closed.\n" if good else b"Not the page that was expected.\n")

            def log_message(self, *_: object) -> None:
                """The code in the address belongs in no log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, seconds: float) -> dict[str, str]:
        """The answer's parameters: `code`, or `error`."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            raise UploadFailed(f"nobody allowed it within {seconds:.0f} seconds: nothing was uploaded; try again") from None

    def _take(self, path: str) -> bool:
        address = urllib.parse.urlsplit(path)
        answer = dict(urllib.parse.parse_qsl(address.query))
        good = address.path == "/" and hmac.compare_digest(answer.get("state", "").encode(), self.state.encode()) and self.state != ""
        if good:
            self._answers.put(answer)
        return good
