"""The interface in a real browser, headless: what a person sees and presses."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.fedtui.tui.runs_for_tests import Hospital
from tests.fedtui.web import chromium
from tests.fedtui.web.chromium import Chromium
from tests.fedtui.web.conftest import Served

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path / "browser")
    yield browser
    browser.close()


def test_the_page_opens_keys_work_and_a_closed_tab_leaves_nothing(served: Served, browser: Chromium, until: Callable[..., None]) -> None:
    tab = browser.tab(served.address)
    tab.shows("Processes", "0 of 3 run", "all up")
    assert tab.evaluate("location.href") == served.base + "/"
    assert tab.evaluate("document.title") == "fedtui: alone"
    assert tab.evaluate("document.fonts.check('16px Roboto Mono')")
    tab.press("6")
    tab.shows("local-epochs")
    tab.press("?")
    tab.shows("esc closes")
    tab.press("Escape")
    until(lambda: "esc closes" not in tab.text, 30, "the end of the help")
    tab.press("7")
    tab.shows("no run")
    second = browser.tab(served.base)  # the cookie is enough
    second.shows("no run")
    assert {urlsplit(address).netloc for address in tab.asked + second.asked} == {urlsplit(served.base).netloc}
    assert tab.errors + second.errors == []
    assert len(served.tabs()) == 2
    second.close()
    until(lambda: len(served.tabs()) == 1, 30, "the end of the second tab")
    tab.press("q")
    until(lambda: served.tabs() == [], 30, "the end of the first tab")
    until(lambda: tab.evaluate("getComputedStyle(document.querySelector('.over')).display") == "flex", 10, "the word that it is closed")


def test_a_chart_appears(tmp_path: Path, serve: Callable[..., Served], browser: Chromium, until: Callable[..., None]) -> None:
    hospital = Hospital(tmp_path / "hospital")
    hospital.run("run", 10).close("finished")
    served = serve("--read-only", folder=hospital.project.root)
    tab = browser.tab(served.address)
    tab.shows("loss", "accuracy", "read-only")
    tab.press("2")
    tab.shows("balanced_accuracy")
    until(lambda: _orange(tab.picture()) > 50, 30, "the second curve, which is orange")
    assert tab.errors == []


def _orange(picture: Image.Image) -> int:
    """How many pixels are about the colour of the second of a chart's curves."""
    return sum(count for count, (red, green, blue) in picture.getcolors(1 << 24) if red > 200 and 110 < green < 190 and blue < 110)


def test_without_the_token_it_shows_nothing(served: Served, browser: Chromium, until: Callable[..., None]) -> None:
    tab = browser.tab(served.base)
    until(lambda: tab.evaluate("document.body.innerText").startswith("Open the address that fedtui web printed"), 30, "the refusal")
    assert tab.evaluate(f"fetch('{served.base}/static/js/textual.js').then(answer => answer.status)") == 403
    assert served.tabs() == []
