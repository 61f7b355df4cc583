"""Google's side on 127.0.0.1: OAuth, and as much of the Drive API as an upload takes, speaking the real protocol.

It refuses what Google refuses: a call without a valid token, a chunk that leaves a gap or is no multiple of 256 KiB, a
wrong PKCE verifier, a query or a parameter that it does not know. An answer has the fields that were asked for, no others.
"""
from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCOPE = "https://www.googleapis.com/auth/drive.file"
ATOM = 256 << 10  # bytes of which Drive keeps whole multiples
ACCOUNT = "me@example.org"
CLIENT = {"client_id": "id.apps.example", "client_secret": "no secret"}


@dataclass
class Session:
    """An upload that has begun: what it makes or replaces, and what has arrived."""

    target: str
    body: dict[str, Any]
    size: int
    fields: str
    arrived: bytearray = field(default_factory=bytearray)
    complete: dict[str, Any] | None = None


class FakeDrive(ThreadingHTTPServer):
    """Lives from `with FakeDrive() as fake` to its end; `calls` are the kinds of calls so far, `chunks` the first byte of each chunk."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_address[1]}/"
        self.entries: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}
        self.sessions: dict[str, Session] = {}
        self.calls: list[str] = []
        self.complaints: list[str] = []
        self.chunks: list[int] = []
        self.troubles: dict[str, list[Any]] = {}
        self.access: set[str] = set()
        self.refresh = {"refresh-0"}
        self.codes: dict[str, dict[str, str]] = {}
        self.consent = "allow"
        self.page_size = 1000
        self.damage = False
        self.held, self.release = threading.Event(), threading.Event()
        self.lock = threading.RLock()
        self.number = itertools.count(1)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that is gone is part of the test; what Google would not understand is not."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.complaints.append(repr(error))

    @property
    def secret(self) -> dict[str, Any]:
        """The client secret file that Google's console would give."""
        return {"installed": {**CLIENT, "auth_uri": f"{self.root}auth", "token_uri": f"{self.root}token", "redirect_uris": ["http://localhost"]}}

    def fail(self, kind: str, *troubles: Any) -> None:
        """Let the next calls of a kind go wrong, one by one: an error (status, reason, Retry-After), or what `Handler` knows by name."""
        self.troubles.setdefault(kind, []).extend(troubles)

    def folders(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries.values() if entry["mimeType"].endswith(".folder") and not entry["trashed"]]

    def files(self) -> dict[str, bytes]:
        """Content by the name that the user sees."""
        found = {entry["name"]: self.content[id] for id, entry in self.entries.items() if id in self.content and not entry["trashed"]}
        assert len(found) == len(self.content) or any(entry["trashed"] for entry in self.entries.values()), "a file is there twice"
        return found

    def issue(self) -> str:
        token = f"access-{next(self.number)}"
        self.access.add(token)
        return token


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeDrive

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PATCH(self) -> None:
        self._route("PATCH")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        address = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(address.query))
        self.query.pop("alt", None)
        routes = {
            ("GET", "/auth"): ("auth", self._auth), ("POST", "/token"): ("token", self._token),
            ("GET", "/drive/v3/about"): ("about", self._about), ("GET", "/drive/v3/files"): ("list", self._list),
            ("GET", "/drive/v3/files/generateIds"): ("ids", self._ids), ("POST", "/drive/v3/files"): ("folder", self._folder),
            ("POST", "/upload/drive/v3/files"): ("start", self._start), ("PUT", "/session"): ("chunk", self._chunk),
        }  # fmt: skip
        if method == "PATCH" and address.path.startswith("/upload/drive/v3/files/"):
            kind, act = "start", self._start
        elif method == "GET" and address.path.rpartition("/")[2] in self.server.entries:
            kind, act = "get", self._get
        else:
            kind, act = routes[method, address.path]
        if kind == "chunk" and (self.headers["Content-Range"] or "").startswith("bytes */"):
            kind = "status"
        self.server.calls.append(kind)
        self.id = address.path.rpartition("/")[2]
        self.trouble = self.server.troubles[kind].pop(0) if self.server.troubles.get(kind) else None
        self.body = b"" if kind == "chunk" else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if kind not in ("auth", "token") and self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.access:
            self._drain()
            self._error(401, "authError")
        elif isinstance(self.trouble, tuple):
            self._drain()
            self._error(*self.trouble)
        else:
            act()

    def _drain(self) -> None:
        if "chunk" in self.server.calls[-1:]:
            self.rfile.read(int(self.headers["Content-Length"]))

    # answers

    def _answer(self, status: int, value: Any = None, **headers: str) -> None:
        if self.trouble == "lost":  # done, but the answer does not get through
            self.close_connection = True
            return
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response(status, "Resume Incomplete" if status == 308 else None)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def _error(self, status: int, reason: str, retry_after: int | None = None) -> None:
        error = {"code": status, "message": f"this is {reason}", "errors": [{"domain": "global", "reason": reason, "message": f"this is {reason}"}]}
        self._answer(status, {"error": error}, **({"Retry_After": str(retry_after)} if retry_after else {}))

    # OAuth

    def _auth(self) -> None:
        """The page on which the user consents."""
        asked, server = self.query, self.server
        good = (asked["client_id"], asked["response_type"], asked["scope"], asked["access_type"]) == (CLIENT["client_id"], "code", SCOPE, "offline")
        assert good and asked["code_challenge_method"] == "S256" and len(asked["state"]) >= 20, asked
        assert urllib.parse.urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"
        answer = {"state": asked["state"], "error": "access_denied"}
        if server.consent != "deny":
            code = f"4/code-{next(server.number)}"
            server.codes[code] = asked
            answer = {"state": asked["state"], "code": code, "scope": SCOPE}
        self._answer(302, None, Location=f"{asked['redirect_uri']}?{urllib.parse.urlencode(answer)}")

    def _token(self) -> None:
        asked, server = dict(urllib.parse.parse_qsl(self.body.decode())), self.server
        if basic := self.headers.get("Authorization"):  # either way is RFC 6749
            asked["client_id"], asked["client_secret"] = base64.b64decode(basic.removeprefix("Basic ")).decode().split(":")
        assert {name: asked[name] for name in CLIENT} == CLIENT, asked
        answer = {"expires_in": 3599, "token_type": "Bearer", "scope": SCOPE}
        if asked["grant_type"] == "authorization_code":
            begun = server.codes.pop(asked["code"])
            challenge = base64.urlsafe_b64encode(hashlib.sha256(asked["code_verifier"].encode()).digest()).decode().rstrip("=")
            if (challenge, asked["redirect_uri"]) != (begun["code_challenge"], begun["redirect_uri"]):
                self._answer(400, {"error": "invalid_grant"})
                return
            refresh = f"refresh-{next(server.number)}"
            server.refresh.add(refresh)
            if server.consent == "nothing":
                answer["scope"] = "openid"
            self._answer(200, {**answer, "access_token": server.issue(), "refresh_token": refresh})
        elif asked["refresh_token"] in server.refresh:
            self._answer(200, {**answer, "access_token": server.issue()})
        else:
            self._answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})

    # Drive

    def _about(self) -> None:
        assert self.query == {"fields": "user(emailAddress,displayName)"}
        self._answer(200, {"user": {"emailAddress": ACCOUNT, "displayName": "Me"}})

    def _ids(self) -> None:
        self._answer(200, {"ids": [f"id{next(self.server.number)}"], "space": "drive"})

    def _folder(self) -> None:
        body = json.loads(self.body)
        if body["id"] in self.server.entries:
            self._error(409, "fileIdInUse")
        else:
            self._answer(200, self._make(body, self.query["fields"]))

    def _get(self) -> None:
        self._answer(200, _only(self.server.entries[self.id], self.query["fields"]))

    def _list(self) -> None:
        found = [entry for entry in self.server.entries.values() if all(_fits(entry, clause) for clause in _clauses(self.query["q"]))]
        match = re.fullmatch(r"nextPageToken,files\((.*)\)", self.query["fields"])
        assert match and self.query["spaces"] == "drive"
        begin, size = int(self.query.get("pageToken", 0)), min(int(self.query["pageSize"]), self.server.page_size)
        answer: dict[str, Any] = {"files": [_only(entry, match[1]) for entry in found[begin : begin + size]]}
        if begin + size < len(found):
            answer["nextPageToken"] = str(begin + size)
        self._answer(200, answer)

    def _start(self) -> None:
        assert self.query["uploadType"] == "resumable"
        body, target = json.loads(self.body or b"{}"), self.id if self.id in self.server.entries else ""
        number = f"upload{next(self.server.number)}"
        self.server.sessions[number] = Session(target, body, int(self.headers["X-Upload-Content-Length"]), self.query["fields"])
        self._answer(200, None, Location=f"{self.server.root}session?upload_id={number}")

    def _chunk(self) -> None:
        """A chunk, or the question (`bytes */SIZE`) what has arrived."""
        server, session = self.server, self.server.sessions.get(self.query["upload_id"])
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", self.headers.get("Content-Range") or "bytes */0")
        length = int(self.headers["Content-Length"])
        if session is None:
            self.rfile.read(length)
            self._error(404, "notFound")
            return
        assert match and int(match[3]) == session.size
        if match[1]:
            begin, end = int(match[1]), int(match[2])
            assert end - begin + 1 == length and (length % ATOM == 0 or end + 1 == session.size)
            server.chunks.append(begin)
            if begin > len(session.arrived):
                self._drain()
                self._error(400, "badRequest")
                return
            if self.trouble in ("cut", "hold"):
                self._take(session, begin, length // 2 // ATOM * ATOM)
                if self.trouble == "hold":
                    server.held.set()
                    server.release.wait(60)
                self.close_connection = True
                return
            self._take(session, begin, length)
        if session.complete is None and len(session.arrived) == session.size and (match[1] or session.size == 0):
            self._finish(session)
        if session.complete is not None:
            self._answer(200, session.complete)
        else:
            self._answer(308, None, **({"Range": f"bytes=0-{len(session.arrived) - 1}"} if session.arrived else {}))

    def _take(self, session: Session, begin: int, length: int) -> None:
        """What has arrived already is not taken again, as Google does."""
        data = self.rfile.read(length)
        if len(data) == length:
            session.arrived += data[len(session.arrived) - begin :]

    def _finish(self, session: Session) -> None:
        server, content = self.server, bytes(session.arrived)
        if server.damage:
            server.damage, content = False, content[:-1] + b"?"
        with server.lock:
            number = session.target or f"id{next(server.number)}"
            server.content[number] = content
            entry = {"size": str(len(content)), "md5Checksum": hashlib.md5(content).hexdigest()}
            session.complete = self._make({"mimeType": "", **server.entries.get(number, {}), **session.body, **entry, "id": number}, session.fields)

    def _make(self, body: dict[str, Any], fields: str) -> dict[str, Any]:
        self.server.entries[body["id"]] = {"trashed": False, "parents": ["root"], "webViewLink": f"https://drive.example/{body['id']}", **body}
        return _only(self.server.entries[body["id"]], fields)


def _only(entry: dict[str, Any], fields: str) -> dict[str, Any]:
    return {name: entry[name] for name in fields.split(",") if name in entry}


def _clauses(query: str) -> list[str]:
    return re.split(r" and (?![^{]*\})", query)


def _fits(entry: dict[str, Any], clause: str) -> bool:
    if clause == "trashed = false":
        return not entry["trashed"]
    if match := re.fullmatch(r"mimeType = '([^']*)'", clause):
        return entry["mimeType"] == match[1]
    if match := re.fullmatch(r"'([^']*)' in parents", clause):
        return match[1] in entry["parents"]
    match = re.fullmatch(r"appProperties has \{ key='([^']*)' and value='([^']*)' \}", clause)
    assert match, f"no query that Drive knows: {clause}"
    return entry.get("appProperties", {}).get(match[1]) == match[2]
