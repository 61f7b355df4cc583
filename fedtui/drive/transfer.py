"""One file to Drive by the resumable protocol: in chunks, from where an earlier try stopped, and compared at the end."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest, MediaUpload

from fedtui.drive.errors import UploadFailed
from fedtui.drive.patience import Patience
from fedtui.drive.service import Remote, remote
from fedtui.drive.store import SESSIONS, Store
from poweranger.errors import UserError

CHUNK = 2 << 20  # bytes, a multiple of 256 KiB; one has to be through within the library's minute, also on a slow line
TYPES = {".csv": "text/csv", ".toml": "application/toml"}


class Content(MediaUpload):
    """A file's bytes as they were when it was opened: what a run appends meanwhile is not sent.

    Chunks are handed out as bytes, not as a stream: one that has to be sent again (401, a lost connection) is whole again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        self._size = os.fstat(self._file.fileno()).st_size
        digest = hashlib.md5(usedforsecurity=False)  # which Drive computes, too: against damage, not against anybody
        for begin in range(0, self._size, CHUNK):
            digest.update(self.getbytes(begin, CHUNK))
        self.md5 = digest.hexdigest()

    def __enter__(self) -> Content:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def chunksize(self) -> int:
        """Bytes of a request."""
        return CHUNK

    def mimetype(self) -> str:
        """The media type, by the file's name."""
        return TYPES.get(self._path.suffix, "application/octet-stream")

    def size(self) -> int:
        """All bytes."""
        return self._size

    def resumable(self) -> bool:
        """Always, also for a small file: there is one way."""
        return True

    def getbytes(self, begin: int, length: int) -> bytes:
        """`length` bytes from `begin` on; fewer at the end."""
        self._file.seek(begin)
        return self._file.read(max(0, min(length, self._size - begin)))


class Transfer:
    """The upload of one file.

    Parameters
    ----------
    key : tells this file's unfinished upload from others' in the store.
    target : id of the folder for a new file, of the file for new content; an unfinished upload to another one is not gone on with.
    request : makes the request that starts the upload.
    """

    def __init__(self, key: str, target: str, content: Content, request: Callable[[], HttpRequest], store: Store, patience: Patience) -> None:
        self._key, self._mark = key, {"target": target, "md5": content.md5}
        self._content, self._request, self._store, self._patience = content, request, store, patience
        self._began_anew = False

    def run(self, advance: Callable[[int], object]) -> Remote:
        """Send what is not there yet; `advance` is told the bytes that are.

        Raises
        ------
        UploadFailed
            When the upload cannot go on, or what arrived is not what was sent.
        """
        request = self._request()
        answer = self._find_out(request)
        while answer is None:
            advance(request.resumable_progress)
            answer = self._patience(partial(self._next, request))
            if answer is None and request.resumable_uri is None:
                request, self._began_anew = self._request(), True
        self._keep(None)
        done = remote(answer)
        if done.md5 != self._content.md5:
            raise UploadFailed(f"{self._key} arrived with another checksum: the same command sends it again")
        advance(self._content.size())
        return done

    def _find_out(self, request: HttpRequest) -> dict | None:
        """Let `request` go on with the unfinished upload, if there is one; the answer to it, if it was complete."""
        kept = self._store.read(SESSIONS).get(self._key)
        if not isinstance(kept, dict) or {name: kept.get(name) for name in self._mark} != self._mark:
            return None
        return self._patience(partial(self._ask, request, str(kept["uri"])))

    def _ask(self, request: HttpRequest, uri: str) -> dict | None:
        """What of an upload has arrived: the protocol's empty PUT, which the client library only does within one process."""
        headers = {"Content-Range": f"bytes */{self._content.size()}", "Content-Length": "0"}
        response, body = request.http.request(uri, "PUT", headers=headers)
        if response.status in (200, 201):
            return request.postproc(response, body)
        if response.status == 308:
            request.resumable_uri = uri
            request.resumable_progress = int(response["range"].rpartition("-")[2]) + 1 if "range" in response else 0
        elif not _expired(response.status):
            raise HttpError(response, body, uri=uri)
        return None

    def _next(self, request: HttpRequest) -> dict | None:
        """Send a chunk; the answer after the last one. Where the upload has expired, `resumable_uri` is None afterwards."""
        try:
            return request.next_chunk()[1]
        except HttpError as error:
            if not _expired(error.status_code) or request.resumable_uri is None or self._began_anew:
                raise
            request.resumable_uri = None
            return None
        finally:
            self._keep(request.resumable_uri)

    def _keep(self, uri: str | None) -> None:
        """Write down where the upload goes on, or that there is none."""
        sessions = self._store.read(SESSIONS)
        entry = {**self._mark, "uri": uri} if uri else None
        if sessions.get(self._key) != entry:
            sessions.pop(self._key, None)
            self._store.write(SESSIONS, sessions | ({self._key: entry} if entry else {}))


def _expired(status: int) -> bool:
    """Whether an upload cannot be gone on with, and has to begin anew; what is left of 4xx concerns permission and pace."""
    return 400 <= status < 500 and status not in (401, 403, 429)
