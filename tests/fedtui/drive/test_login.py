"""The permission: OAuth with a browser on another machine, here an HTTP client that follows redirects."""
from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fedtui.drive.errors import UploadFailed
from fedtui.drive.login import log_in, read_client
from poweranger.errors import UserError
from tests.fedtui.drive.fake import FakeDrive


class User:
    """Reads what the program says, and opens the address in a browser; `before` gets the redirect's address first."""

    def __init__(self, before: Callable[[str], None] = lambda _: None) -> None:
        self.said: list[str] = []
        self.page = ""
        self._before = before
        self._browsers: list[threading.Thread] = []

    def __call__(self, line: str) -> None:
        self.said.append(line)
        if line.startswith("http"):
            self._browsers.append(threading.Thread(target=self._open, args=(line,)))
            self._browsers[0].start()

    def _open(self, address: str) -> None:
        self._before(urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)["redirect_uri"][0])
        self.page = httpx.get(address, follow_redirects=True).text

    def leave(self) -> None:
        for browser in self._browsers:
            browser.join(10)


class TestLogin:
    def test_the_permission_comes_back_through_the_browser_and_through_nobody_else(self, fake: FakeDrive) -> None:
        answers: list[int] = []

        def strangers(redirect: str) -> None:
            """A request for an icon, somebody who guesses, an old page: they end nothing."""
            for path in ("favicon.ico", "?code=4/mine&state=guess", "?code=4/mine&state=", "?error=access_denied"):
                answers.append(httpx.get(redirect + path).status_code)

        user = User(strangers)
        token = log_in(fake.secret["installed"], user, wait_s=30)
        user.leave()
        assert token in fake.refresh and answers == [404] * 4
        assert "go back to the terminal" in user.page
        assert not [line for line in user.said if token in line or "4/code" in line]

    @pytest.mark.parametrize(("consent", "why"), [("deny", "access_denied"), ("nothing", "[Ss]cope")])
    def test_no_permission_is_one_sentence(self, fake: FakeDrive, consent: str, why: str) -> None:
        fake.consent = consent
        user = User()
        with pytest.raises(UploadFailed, match=why):
            log_in(fake.secret["installed"], user, wait_s=30)
        user.leave()

    def test_nobody_waits_for_ever(self, fake: FakeDrive) -> None:
        with pytest.raises(UploadFailed, match="nobody allowed it"):
            log_in(fake.secret["installed"], lambda _: None, wait_s=0.1)


class TestClientSecret:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("no json", "is no JSON"), ('{"web": {"client_id": "x"}}', "Desktop app"), ('{"type": "service_account"}', "Desktop app"), ("[]", "Desktop app"),
            ('{"installed": {"client_id": "x", "client_secret": "y", "auth_uri": "https://a", "token_uri": "http://evil.example"}}', "token_uri"),
        ],
    )  # fmt: skip
    def test_another_file_is_refused_with_the_reason(self, tmp_path: Path, content: str, why: str) -> None:
        (tmp_path / "secret.json").write_text(content)
        with pytest.raises(UserError, match=why):
            read_client(tmp_path / "secret.json")

    def test_the_one_from_google_s_console_is_taken(self, tmp_path: Path, fake: FakeDrive) -> None:
        (tmp_path / "secret.json").write_text(json.dumps(fake.secret))
        assert read_client(tmp_path / "secret.json")["client_id"] == fake.secret["installed"]["client_id"]
        with pytest.raises(UserError, match="cannot be read"):
            read_client(tmp_path / "none.json")
