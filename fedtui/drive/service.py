"""The calls of the Drive API (v3) that an upload takes.

What is there is asked from Drive each time, not remembered here: the folder of a run and its files carry their names in
`appProperties`, which stay when somebody renames or moves them. A file in the bin does not count as there.
"""
from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass
from typing import Any

from google.auth.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest, MediaUpload

from fedtui.drive.patience import Patience
from poweranger.errors import UserError

FOLDER = "application/vnd.google-apps.folder"
RUN, FILE = "fedtuiRun", "fedtuiFile"  # our keys in `appProperties`
FIELDS = "id,size,md5Checksum,appProperties,webViewLink"
ENDPOINT = "FEDTUI_DRIVE_ENDPOINT"  # for tests: a server on this machine in the place of Google's


@dataclass(frozen=True)
class Remote:
    """A file or folder in Drive; `md5` and `size` are those of a file's content."""

    id: str
    md5: str = ""
    size: int = 0
    link: str = ""


class Drive:
    """One user's Drive, as far as this program made it: that is all the permission covers."""

    def __init__(self, credentials: Credentials, patience: Patience) -> None:
        document = json.loads(get_static_doc("drive", "v3"))  # comes with the library: nothing is fetched
        document["rootUrl"] = _endpoint() or document["rootUrl"]
        self.patience = patience
        self._api = build_from_document(document, credentials=credentials)

    def account(self) -> str:
        """The e-mail address of the account."""
        answer = self._call(self._api.about().get(fields="user(emailAddress,displayName)"))
        user = answer.get("user", {})
        return str(user.get("emailAddress") or user.get("displayName") or "an account without a name")

    def find_folder(self, run: str) -> Remote | None:
        """The folder of a run; the oldest one, should there be several."""
        found = self._list(f"mimeType = '{FOLDER}' and appProperties has {{ key='{RUN}' and value='{_quoted(run)}' }}")
        return remote(found[0]) if found else None

    def make_folder(self, run: str) -> Remote:
        """A new folder for a run. Its id is fixed beforehand, so that a repeated call cannot make a second one."""
        number = self._call(self._api.files().generateIds(count=1, space="drive"))["ids"][0]
        body = {"id": number, "name": run, "mimeType": FOLDER, "appProperties": {RUN: run}}
        request = self._api.files().create(body=body, fields=FIELDS)
        return remote(self.patience(lambda: self._execute_once(request, number)))

    def files(self, folder: Remote) -> dict[str, Remote]:
        """The files of a run's folder, by the name they have in the run."""
        found: dict[str, Remote] = {}
        for entry in self._list(f"'{_quoted(folder.id)}' in parents"):
            name = entry.get("appProperties", {}).get(FILE)
            if name is not None:
                found.setdefault(name, remote(entry))
        return found

    def new_file(self, folder: Remote, name: str, content: MediaUpload) -> HttpRequest:
        """The request that uploads `content` as a new file, called like the last part of `name`."""
        body = {"name": name.rpartition("/")[2], "parents": [folder.id], "appProperties": {FILE: name}}
        return self._api.files().create(body=body, media_body=content, fields=FIELDS)

    def new_content(self, file: Remote, content: MediaUpload) -> HttpRequest:
        """The request that gives a file new content; Drive keeps the old one as a version for a while."""
        return self._api.files().update(fileId=file.id, body={}, media_body=content, fields=FIELDS)

    def _list(self, query: str) -> list[dict[str, Any]]:
        """All entries that `query` finds and that are not in the bin, oldest first."""
        files = self._api.files()
        request = files.list(
            q=f"{query} and trashed = false", spaces="drive", orderBy="createdTime", pageSize=1000, fields=f"nextPageToken,files({FIELDS})"
        )
        found: list[dict[str, Any]] = []
        while request is not None:
            answer = self._call(request)
            found += answer.get("files", [])
            request = files.list_next(request, answer)
        return found

    def _call(self, request: HttpRequest) -> dict[str, Any]:
        return self.patience(request.execute)

    def _execute_once(self, request: HttpRequest, number: str) -> dict[str, Any]:
        try:
            return request.execute()
        except HttpError as error:
            if error.status_code != 409:  # else an earlier try has made it, whose answer was lost
                raise
            return self._api.files().get(fileId=number, fields=FIELDS).execute()


def remote(entry: dict[str, Any]) -> Remote:
    """What the API's answer for a file says."""
    return Remote(str(entry["id"]), str(entry.get("md5Checksum", "")), int(entry.get("size", 0)), str(entry.get("webViewLink", "")))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _endpoint() -> str | None:
    """The address in the environment; only one on this machine, since the permission is sent there."""
    address = os.environ.get(ENDPOINT)
    if address and urllib.parse.urlsplit(address).hostname != "127.0.0.1":
        raise UserError(f"{ENDPOINT} is for tests: it has to be on 127.0.0.1")
    return address
