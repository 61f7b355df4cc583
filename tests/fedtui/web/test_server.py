"""Who gets in, over plain HTTP and websockets as any program could speak them."""
from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.fedtui.conftest import Fedtui
from tests.fedtui.web.conftest import Page, Served

Serve = Callable[..., Served]
PATHS = ("/", "/ws", "/static/", "/static/js/textual.js", "/download/x", "/nothing", "/?token=", "/?token=wrong")


class TestWithoutTheToken:
    def test_nothing_is_served(self, served: Served) -> None:
        tokens = [f"/?token={served.token[:-1]}", f"/?token={served.token}x", f"/static/js/textual.js?token={served.token}", f"/ws?token={served.token}"]
        for path in [*PATHS, *tokens]:
            answer = served.get(path, headers={"Origin": served.base})
            assert (answer.status_code, answer.text) == (403, "Open the address that fedtui web printed when it was started: it has the token.\n"), path
            assert not answer.cookies
        assert served.get("/", "POST").status_code == 403
        assert served.get("/", cookies={name: served.token for name in served.cookie}).status_code == 403
        assert served.tabs() == []

    def test_it_is_another_one_each_time(self, serve: Serve) -> None:
        one, other = serve(), serve()
        assert one.token != other.token
        assert len(one.token) >= 43  # 256 bits
        assert other.get("/", cookies={name: value for name in other.cookie for value in one.cookie.values()}).status_code == 403


class TestWithTheToken:
    def test_it_is_changed_for_a_cookie_and_leaves_the_address(self, served: Served) -> None:
        answer = served.get(f"/?token={served.token}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert served.token not in cookie
        for path in ("/", "/static/css/xterm.css", "/static/js/textual.js", "/static/fonts/RobotoMono-VariableFont_wght.ttf"):
            assert served.get(path, cookies=served.cookie).status_code == 200, path

    def test_every_answer_forbids_other_pages_and_places(self, served: Served) -> None:
        answers = [served.get("/"), served.get(f"/?token={served.token}")]
        answers += [served.get(path, cookies=served.cookie) for path in ("/", "/static/js/textual.js", "/nothing")]
        assert [answer.status_code for answer in answers] == [403, 303, 200, 200, 404]
        for answer in answers:
            policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
            assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
            assert policy["connect-src"] == f"'self' ws{served.base.removeprefix('http')}"
            headers = ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cache-Control")
            assert [answer.headers[name] for name in headers] == ["nosniff", "DENY", "no-referrer", "no-store"]

    def test_the_page_takes_nothing_from_elsewhere(self, served: Served) -> None:
        page = served.get("/", cookies=served.cookie).text
        assert re.findall(r"\w+://[^/\"]+", page) == [f"ws{served.base.removeprefix('http')}"]
        assert not re.search(r"<script>|\son\w+=", page)

    def test_not_under_a_name_of_somebody_else(self, served: Served) -> None:
        for host in ("evil.example", "localhost.evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost:x", "[::1", ""):
            for path in ("/", f"/?token={served.token}", "/ws"):
                answer = served.get(path, headers={"Host": host, "Origin": f"http://{host}"}, cookies=served.cookie)
                assert answer.status_code == 403, (host, path)
                assert "Set-Cookie" not in answer.headers

    def test_not_for_a_page_of_somebody_else(self, served: Served) -> None:
        async def script(page: Page) -> None:
            raise AssertionError("it is let in")

        own = served.base.removeprefix("http://")
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{own}", f"http://{own}.evil.example", "none"):
            assert served.get("/", headers={"Origin": origin}, cookies=served.cookie).status_code == 403, origin
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                served.visit(script, origin=origin)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            served.visit(script, origin=None)  # every browser sends one with a websocket
        assert served.tabs() == []

    def test_a_tunnel_may_have_another_port(self, served: Served) -> None:
        there = {"Host": "localhost:8123"}
        answer = served.get(f"/?token={served.token}", headers=there)
        page = served.get("/", headers=there, cookies=dict(answer.cookies))
        assert 'data-session-websocket-url="ws://localhost:8123/ws"' in page.text
        assert set(answer.cookies).isdisjoint(served.cookie)  # two tunnels to two servers: each has a cookie of its own


class TestTabs:
    def test_keys_work_and_a_closed_tab_leaves_no_process(self, served: Served, until: Callable[..., None]) -> None:
        async def script(page: Page) -> None:
            await page.shows("Processes", "0 of 3 run", "all up")
            await page.type("6")
            await page.shows("local-epochs")
            await page.socket.send_json(["resize", {"width": 100, "height": 30}])
            async with served.session() as session, served.open(session) as second:
                other = Page(second)
                await other.shows("local-epochs")  # where the first one is
                assert len(served.tabs()) == 2
            await asyncio.to_thread(until, lambda: len(served.tabs()) == 1, 30, "the end of the second tab")
            await page.type("7")
            await page.shows("no run")

        served.visit(script)
        until(lambda: served.tabs() == [], 30, "the end of the tab")

    def test_leaving_closes_it_and_rubbish_closes_only_itself(self, served: Served, until: Callable[..., None]) -> None:
        async def rubbish(page: Page) -> None:
            await page.shows("all up")
            async with served.session() as session:
                for words in ("no json", "[]", '["stdin"]', '["stdin", 5]', '["stdin", "\\ud800"]', '["resize", {"width": "x"}]', "{}"):
                    async with served.open(session) as socket:
                        await socket.send_str(words)
                        await Page(socket).is_closed()
            await page.type("q")
            await page.is_closed()

        served.visit(rubbish)
        until(lambda: served.tabs() == [], 30, "the end of the tabs")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_the_servers_end_is_every_tabs_end(self, served: Served, until: Callable[..., None], number: signal.Signals) -> None:
        pids: list[int] = []

        async def script(page: Page) -> None:
            async with served.session() as session, served.open(session) as socket:
                await Page(socket).shows("all up")
                await page.shows("all up")
                pids.extend(served.tabs())
                served.process.send_signal(number)
                await page.is_closed()

        served.visit(script)
        assert len(pids) == 2
        until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 30, "the end of the tabs")
        assert served.process.wait(30) == (143 if number == signal.SIGTERM else -9)

    def test_one_that_hangs_is_killed(self, served: Served, until: Callable[..., None]) -> None:
        async def script(page: Page) -> None:
            await page.shows("all up")
            (pid,) = served.tabs()
            os.kill(pid, signal.SIGSTOP)

        served.visit(script)
        until(lambda: served.tabs() == [], 30, "the end of the tab")

    def test_a_viewer_changes_nothing(self, serve: Serve, alone: Fedtui) -> None:
        before = (alone.folder / "pyproject.toml").read_bytes()

        async def script(page: Page) -> None:
            await page.shows("read-only", "0 of 3 run")
            await page.type("u")
            await page.shows("nothing is changed here")

        serve("--read-only").visit(script)
        assert (alone.folder / "pyproject.toml").read_bytes() == before
        assert {process["state"] for process in alone("ps", "--json").json} == {"stopped"}
