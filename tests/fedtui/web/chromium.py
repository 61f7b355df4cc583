"""A headless Chromium, spoken to over its debugging pipe: pages, keys, pictures, and what a page's websocket was sent."""
from __future__ import annotations

import base64
import contextlib
import fcntl
import io
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyte
from PIL import Image

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--ignore-certificate-errors", "--window-size=1200,800", "--remote-debugging-pipe",
)  # fmt: skip
CODES = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40}


class Chromium:
    """The browser; `tab(address)` opens a page."""

    def __init__(self, folder: Path, *flags: str) -> None:
        (low_read, self._to), (self._from, low_write) = os.pipe(), os.pipe()
        read, write = (fcntl.fcntl(number, fcntl.F_DUPFD, 10) for number in (low_read, low_write))  # out of the way of 3 and 4, which it wants
        assert PROGRAM is not None
        words = [PROGRAM, *FLAGS, *flags, f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", *words], pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for number in (low_read, low_write, read, write):
            os.close(number)
        self._number, self.tabs = 0, list[Tab]()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with os.fdopen(self._from, "rb") as pipe:
            rest = b""
            while piece := pipe.read1(1 << 16):
                *messages, rest = (rest + piece).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers.put(message)
                    for tab in [tab for tab in self.tabs if tab.session == message.get("sessionId")]:
                        tab.take(message.get("method", ""), message.get("params", {}))

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self._answers.get(timeout=60)
        assert answer["id"] == self._number and "result" in answer, answer
        return answer["result"]

    def tab(self, address: str) -> Tab:
        self.tabs.append(Tab(self))
        self.tabs[-1].go(address)
        return self.tabs[-1]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._to, b'{"id": 0, "method": "Browser.close"}\0')
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._to)


class Tab:
    """A page. Its terminal paints on a canvas, so text is read from what its websocket was sent."""

    def __init__(self, browser: Chromium) -> None:
        self.browser, self.session = browser, ""
        self.errors: list[str] = []
        self.asked: list[str] = []  # addresses of all requests
        self._target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self._screen: pyte.Screen | None = None
        self._lock = threading.Lock()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **params)

    def go(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def take(self, event: str, params: dict[str, Any]) -> None:
        """Called for each event, in the browser's thread."""
        if event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.asked.append(params["url"])
            size = parse_qs(urlsplit(params["url"]).query)
            self._screen = pyte.Screen(int(size["width"][0]), int(size["height"][0]))
            self._stream = pyte.ByteStream(self._screen)
        elif event == "Network.webSocketFrameReceived" and params["response"]["opcode"] == 2:
            with self._lock:
                self._stream.feed(base64.b64decode(params["response"]["payloadData"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))

    @property
    def text(self) -> str:
        with self._lock:
            return "\n".join(self._screen.display) if self._screen else ""

    def shows(self, *words: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not all(word in self.text for word in words):
            assert time.monotonic() < end, f"{words} did not come:\n{self.text}\n{self.errors}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        for key in keys:
            code = {"windowsVirtualKeyCode": CODES[key]} if key in CODES else {"text": key}
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **code)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def evaluate(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script, awaitPromise=True)["result"].get("value")

    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))).convert("RGB")

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self._target)
