"""What the documentation points to is there, and what is made of the command line is current."""
from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("benchmarks/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for link in ("".join(groups) for groups in LINK.findall(prose(page))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.match(r"(https?|mailto):", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_that_is_named_exists() -> None:
    """In messages, comments and other pages: `docs/NAME.md`."""
    sources = [*PAGES, *PROJECT.glob("poweranger/**/*.py"), *PROJECT.glob("fedtui/**/*.py")]
    named = {name for source in sources for name in re.findall(r"docs/[\w-]+\.md", source.read_text(encoding="utf-8"))}
    assert sorted(name for name in named if not (PROJECT / name).exists()) == []


def test_the_manual_pages_are_current(make_man: ModuleType) -> None:
    for name, text in make_man.pages().items():
        assert text == (PROJECT / "man" / name).read_text(encoding="utf-8"), "run: python docs/make_man.py"


@pytest.fixture
def make_man(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import importlib

    monkeypatch.syspath_prepend(PROJECT / "docs")
    return importlib.import_module("make_man")


def test_the_pages_are_built_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the extra docs is not installed")
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-d", tmp_path / "cache", PROJECT / "docs", tmp_path / "html"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    made = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert made >= {path.stem for path in (PROJECT / "docs").glob("*.md")}
    for page in (tmp_path / "html").glob("*.html"):
        assert re.findall(r"""(?:src=|<link[^>]*href=|url\()["']?(?:https?:)?//[^"')]*""", page.read_text(encoding="utf-8")) == [], page
    assert 'src="_images/overview.svg"' in (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
