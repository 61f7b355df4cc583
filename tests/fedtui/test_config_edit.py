from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtui import config_edit
from fedtui.project import Project
from fedtui.pyproject_file import edit, fingerprint
from fedtui.toml_edit import remove, set_value
from poweranger.errors import UserError
from poweranger.run_config import KEYS

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = """\
# A study. Mind the spacing.
[tool.flwr.app]
publisher   = 'x'

[tool.flwr.app.config]
num-server-rounds = 3       # as in the paper
  "batch-size"=16
seed = 0x10

# what ruff does
[tool.ruff]
line-length = 130
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_bytes(FILE.encode())
    return Project.find(folder)


def content(project: Project) -> str:
    return project.pyproject.read_bytes().decode()


# --- run configuration ---


def test_set_changes_the_values_and_nothing_else(project):
    assert config_edit.set_values(project, {"num-server-rounds": "7", "batch-size": 4, "seed": "16"}) == ["num-server-rounds", "batch-size"]
    assert content(project) == FILE.replace("= 3 ", "= 7 ").replace("=16", "=4")


def test_a_new_key_goes_behind_the_last_one_of_its_table(project):
    config_edit.set_values(project, {"learning-rate": "1", "classes": "a,b"})
    assert content(project) == FILE.replace("seed = 0x10\n", 'seed = 0x10\nlearning-rate = 1.0\nclasses = "a,b"\n')


def test_set_and_unset_again_restores_the_file(project):
    config_edit.set_values(project, {"augment": "false"})
    assert config_edit.unset_values(project, ["augment", "dropout"]) == ["augment"]
    assert content(project) == FILE


def test_get_list_and_diff(project):
    rounds = config_edit.get(project, "num-server-rounds")
    assert (rounds.value, rounds.in_file) == (3, True)
    assert not config_edit.get(project, "dropout").in_file
    assert [setting.key.name for setting in config_edit.settings(project)] == [key.name for key in KEYS]
    assert {setting.key.name: setting.value for setting in config_edit.diff(project)} == {"seed": 16}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": "3", "rounds": "4"}, "rounds is no key"),
        ({"seed": "3", "batchsize": "4"}, "did you mean batch-size"),
        ({"seed": "3", "learning-rate": "nan"}, "learning-rate = nan is not allowed"),
        ({"seed": "3", "learning-rate": float("inf")}, "learning-rate = inf is not allowed"),
        ({"seed": "3", "batch-size": "2.5"}, "batch-size = 2.5 is not allowed: it takes an integer"),
        ({"seed": "3", "batch-size": "0"}, "from 1 to 4096"),
        ({"seed": "3", "augment": "perhaps"}, "true or false"),
        ({"seed": "3", "fraction-fit": "0"}, "would train nobody"),
        ({"seed": "3", "classes": "one"}, "two or more different names"),
        ({"seed": "3", "classes": "a,b\x1b]52;c;x\x07"}, "is not allowed"),
    ],
)
def test_several_keys_are_set_together_or_not_at_all(project, changes, said):
    with pytest.raises(UserError, match=said):
        config_edit.set_values(project, changes)
    assert content(project) == FILE


def test_an_unknown_key_in_the_file_is_named_and_can_be_taken_out(project):
    project.pyproject.write_bytes(FILE.replace("seed = 0x10", "batchsize = 1").encode())
    with pytest.raises(UserError, match=r"batchsize is no key.*config unset batchsize"):
        config_edit.settings(project)
    assert config_edit.unset_values(project, ["batchsize"]) == ["batchsize"]
    with pytest.raises(UserError, match="did you mean batch-size"):
        config_edit.unset_values(project, ["batchsize"])


def test_a_wrong_value_in_the_file_is_named_and_can_be_mended(project):
    project.pyproject.write_bytes(FILE.replace("0x10", "'many'").encode())
    with pytest.raises(UserError, match=r'pyproject.toml: seed = "many" is not allowed'):
        config_edit.get(project, "seed")
    config_edit.set_values(project, {"seed": "1"})
    assert config_edit.get(project, "seed").value == 1


def test_who_must_start_again():
    assert config_edit.which_need_restart(["num-server-rounds", "batch-size"]) == {"server"}
    assert config_edit.which_need_restart(["threads", "taken-out"]) == {"clients"}
    assert config_edit.which_need_restart(["seed", "cache-mb"]) == {"server", "clients"}


# --- the file ---


def test_no_table_yet_gives_one_at_the_end(project):
    project.pyproject.write_bytes(b"[tool.flwr.app]\npublisher = 'x'\n\n# ruff\n[tool.ruff]\nx = 1")
    config_edit.set_values(project, {"seed": "1", "augment": "false"})
    assert content(project).endswith("[tool.ruff]\nx = 1\n\n[tool.flwr.app.config]\nseed = 1\naugment = false\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[tool.flwr.app.config]\n\n# next\n[x]\n", "[tool.flwr.app.config]\nseed = 7\n\n# next\n[x]\n"),
        ("[tool.flwr.app.config]", "[tool.flwr.app.config]\nseed = 7\n"),
        ("[tool.flwr]\napp.config.dropout = 0.1 # a\napp.x = 1\n", "[tool.flwr]\napp.config.dropout = 0.1 # a\napp.config.seed = 7\napp.x = 1\n"),
        ('[tool.flwr.app]\n"config" . "seed" = 1 # a\n', '[tool.flwr.app]\n"config" . "seed" = 7 # a\n'),
        ("[tool.flwr.app]\nconfig = { dropout=0.1 } # a\n", "[tool.flwr.app]\nconfig = { dropout=0.1, seed = 7} # a\n"),
        ("[tool.flwr.app]\nconfig = {} # a\n", "[tool.flwr.app]\nconfig = {seed = 7} # a\n"),
        ("[tool.flwr.app.config]\nseed=1\n[x]\na=1\n[tool.flwr.app]\nb=2\n", "[tool.flwr.app.config]\nseed=7\n[x]\na=1\n[tool.flwr.app]\nb=2\n"),
        ("[tool.flwr.app.config]\r\nx = '''\na\r\n'''\r\n", "[tool.flwr.app.config]\r\nx = '''\na\r\n'''\r\nseed = 7\r\n"),
    ],
)
def test_forms_of_the_table(before, after):
    assert set_value(before, ["tool", "flwr", "app", "config", "seed"], 7) == after


def test_a_form_that_cannot_be_edited_is_refused_with_a_sentence(project):
    text = "[tool.flwr]\napp.publisher = 'x'\napp.config.a.b = 1\n"  # the table can have no header now, and has no key of its own
    project.pyproject.write_bytes(text.encode())
    with pytest.raises(UserError, match="edit it by hand"):
        config_edit.set_values(project, {"seed": "1"})
    assert content(project) == text


def test_bom_and_crlf_stay(project):
    windows = b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode()
    project.pyproject.write_bytes(windows)
    config_edit.set_values(project, {"num-server-rounds": "7", "dropout": "0"})
    expected = windows.replace(b"= 3 ", b"= 7 ").replace(b"0x10\r\n", b"0x10\r\ndropout = 0.0\r\n")
    assert project.pyproject.read_bytes() == expected


def test_a_link_stays_a_link(project):
    target = project.root.parent / "elsewhere.toml"
    project.pyproject.rename(target)
    project.pyproject.symlink_to(target)
    config_edit.set_values(project, {"seed": "1"})
    assert project.pyproject.is_symlink()
    assert "seed = 1\n" in target.read_text()


def test_mode_and_owner_stay(project):
    project.pyproject.chmod(0o640)
    if os.getuid() == 0:
        os.chown(project.pyproject, 1234, 5678)
    before = project.pyproject.stat()
    config_edit.set_values(project, {"seed": "1"})
    after = project.pyproject.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert [path.name for path in project.root.iterdir()] == ["pyproject.toml"]


def test_a_read_only_file_is_left_alone(project):
    project.pyproject.chmod(0o444)
    with pytest.raises(UserError, match="read-only"):
        config_edit.set_values(project, {"seed": "1"})
    assert content(project) == FILE


@pytest.mark.parametrize(
    ("broken", "said"),
    [(b"[tool.flwr.app]\nx = = 1\n", "line 2, column 5"), (b"[tool.flwr.app]\nx = '\xff'\n", "UTF-8"), (b"[tool.flwr.app]\rx = 1\n", "line 1")],
)
def test_a_file_that_does_not_parse_is_left_alone(project, broken, said):
    project.pyproject.write_bytes(broken)
    for command in (lambda: config_edit.set_values(project, {"seed": "1"}), lambda: config_edit.get(project, "seed")):
        with pytest.raises(UserError, match=f"pyproject.toml.*{said}"):
            command()
    assert project.pyproject.read_bytes() == broken


def test_a_change_since_it_was_shown_is_not_overwritten(project):
    seen = fingerprint(project)
    project.pyproject.write_bytes(FILE.encode() + b"# from an editor\n")
    with pytest.raises(UserError, match="changed by somebody else"):
        config_edit.set_values(project, {"seed": "1"}, seen)
    assert content(project) == FILE + "# from an editor\n"
    config_edit.set_values(project, {"seed": "1"}, fingerprint(project))


def test_a_change_while_it_is_edited_is_not_overwritten(project):
    def slow(text: str) -> str:
        project.pyproject.write_bytes(FILE.encode() + b"# from an editor\n")
        return text + "# mine\n"

    with pytest.raises(UserError, match="changed by somebody else"):
        edit(project, slow)
    assert content(project) == FILE + "# from an editor\n"
    assert [path.name for path in project.root.iterdir()] == ["pyproject.toml"]


def test_an_edit_that_changes_nothing_writes_nothing(project):
    before = project.pyproject.stat().st_mtime_ns
    assert config_edit.set_values(project, {"seed": "16"}) == []
    assert project.pyproject.stat().st_mtime_ns == before


def test_edits_at_once_all_count(project):
    """From processes and from threads of one process, each with a key of its own."""
    values = {"local-epochs": 2, "momentum": 0.1, "dropout": 0.3, "threads": 4, "cache-mb": 9, "channels": 1}
    code = "import sys; from pathlib import Path; from fedtui import config_edit as c; from fedtui.project import Project; " \
        "c.set_values(Project(Path(sys.argv[1])), {sys.argv[2]: sys.argv[3]})"
    command = [sys.executable, "-c", code, str(project.root)]
    processes = [subprocess.Popen([*command, name, str(value)], cwd=REPOSITORY) for name, value in list(values.items())[:3]]
    threads = [threading.Thread(target=config_edit.set_values, args=(project, {name: value})) for name, value in list(values.items())[3:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    table = tomllib.loads(content(project))["tool"]["flwr"]["app"]["config"]
    assert table == {"num-server-rounds": 3, "batch-size": 16, "seed": 16, **values}
    kept = [line for line in content(project).splitlines() if line.partition(" =")[0] not in values]
    assert kept == FILE.splitlines()


# --- roster ---


def test_the_roster_grows_changes_and_shrinks_in_place(project):
    config_edit.set_server_address(project, "10.0.0.1:9000")
    config_edit.add_client(project, "C1", "data/one", {"THREADS": "2", "NOTE": 'a "b"\n'})
    config_edit.add_client(project, "C2")
    project.pyproject.write_bytes(project.pyproject.read_bytes() + b"\n# about x\n[tool.x]\n")
    config_edit.add_client(project, "C3", "/d")
    assert content(project) == FILE + (
        '\n[tool.fedtui]\nserver-address = "10.0.0.1:9000"\n'
        '\n[tool.fedtui.clients.C1]\ndata-dir = "data/one"\nenv = {THREADS = "2", NOTE = "a \\"b\\"\\n"}\n'
        '\n[tool.fedtui.clients.C2]\n\n[tool.fedtui.clients.C3]\ndata-dir = "/d"\n\n# about x\n[tool.x]\n'
    )
    config_edit.change_client(project, "C1", data_dir="two", env={"THREADS": "3", "NOTE": None})
    config_edit.change_client(project, "C2", env={"THREADS": "1"})
    config_edit.change_client(project, "C3", data_dir="")
    config_edit.remove_client(project, "C3")
    roster = project.roster()
    assert roster.server_address == "10.0.0.1:9000"
    assert [(client.name, client.data_dir, client.env) for client in roster.clients] == [
        ("C1", str(project.root / "two"), {"THREADS": "3"}),
        ("C2", None, {"THREADS": "1"}),
    ]
    config_edit.remove_client(project, "C1")
    config_edit.remove_client(project, "C2")
    assert content(project) == FILE + '\n[tool.fedtui]\nserver-address = "10.0.0.1:9000"\n\n# about x\n[tool.x]\n'


def test_a_hand_written_roster_keeps_its_comments(project):
    roster = """
# the north
[tool.fedtui.clients.North]   # since May
data-dir = "n"
env.A = "1"
env.B = "2"   # two

# the south
[tool.fedtui.clients.South]
[tool.fedtui.clients.South.env]
A = "1"
# about the rest
[x]"""
    project.pyproject.write_bytes((FILE + roster).encode())
    config_edit.change_client(project, "South", env={"A": "2", "B": "x"})
    config_edit.change_client(project, "North", env={"B": "3"})
    changed = roster.replace('A = "1"\n# about', 'A = "2"\nB = "x"\n# about').replace('"2"   # two', '"3"   # two')
    assert content(project) == FILE + changed
    config_edit.remove_client(project, "North")
    config_edit.remove_client(project, "South")
    assert content(project) == FILE + "\n# the north\n\n# the south\n# about the rest\n[x]"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda p: config_edit.add_client(p, "server"), "client name 'server'"),
        (lambda p: config_edit.add_client(p, "../x"), "client name"),
        (lambda p: config_edit.add_client(p, "C1"), "there is a client C1 already"),
        (lambda p: config_edit.add_client(p, "C9", ""), "data-dir takes the path"),
        (lambda p: config_edit.add_client(p, "C9", "a\0b"), "data-dir takes the path"),
        (lambda p: config_edit.add_client(p, "C9", os.fsdecode(b"\xff")), "no UTF-8 text"),
        (lambda p: config_edit.add_client(p, "C9", env={"A B": "x"}), "no name of an environment variable"),
        (lambda p: config_edit.change_client(p, "C9", "x"), "no client C9 in the roster: it has C1"),
        (lambda p: config_edit.change_client(p, "C1", env={"A": "x\0"}), "takes text"),
        (lambda p: config_edit.remove_client(p, "C9"), "no client C9"),
        (lambda p: config_edit.set_server_address(p, "here"), "host:port"),
    ],
)
def test_what_the_roster_refuses_leaves_the_file_alone(project, act, said):
    config_edit.add_client(project, "C1")
    before = content(project)
    with pytest.raises(UserError, match=said):
        act(project)
    assert content(project) == before


# --- any hand-formatted file ---

space = st.text(" \t", max_size=3)
comment = st.one_of(st.just(""), st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).map(lambda text: "#" + text))
scalar = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.integers(0, 2**20).map(hex),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["true", "false", "1_000", "+5", "1e3", "1979-05-27T07:32:00Z", "inf"]),
    st.sampled_from(['"a # b"', "'c:\\d'", '""', '"""x\n [tool.y]\n"""', "'''\n'q'\n'''", '"\\u00e9"', "[1, 2, # c\n 3]", "{a = 1}"]),
)
value = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(st.characters(codec="utf-8"), max_size=12))
names = st.lists(st.sampled_from(["seed", "batch-size", "x", "dropout", "seed2", "a-b", "é"]), min_size=1, max_size=5, unique=True)


@st.composite
def hand_formatted(draw, placed: str = "{}"):
    """(file with the hole HOLE where the value of KEY stands, KEY's path, old literal, its whole line)."""
    lines: list[str] = []

    def noise() -> None:
        for _ in range(draw(st.integers(0, 2))):
            lines.append(draw(space) + draw(comment))

    def keys(prefix: str, chosen: list[str]) -> list[int]:
        places = []
        for name in chosen:
            noise()
            quote = draw(st.sampled_from(['"', "'"] if name == "é" else ["", '"', "'"]))
            places.append(len(lines))
            lines.append(f"{draw(space)}{prefix}{quote}{name}{quote}{draw(space)}={draw(space)}{draw(scalar)}{draw(space)}{draw(comment)}")
        return places

    form = draw(st.sampled_from(["table", "dotted"]))
    config = draw(names)
    tables = [("[tool.ruff]", "", draw(names)), ("[[list]]", "", draw(names)), ("[[list]]", "", draw(names)), ("[tool.flwr.app.components]", "", draw(names))]
    tables.append(("[tool.flwr.app.config]", "", config) if form == "table" else ("[tool.flwr.app]", "config . ", config))
    places: list[int] = []
    for header, prefix, chosen in draw(st.permutations(tables)):
        if form == "dotted" and header.endswith("components]"):
            continue
        noise()
        lines.append(draw(space) + header + draw(space) + draw(comment))
        found = keys(prefix, chosen)
        if chosen is config:
            places = found
    noise()
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = newline.join(line.replace("\n", newline) for line in lines) + draw(st.sampled_from(["", newline]))
    target = draw(st.integers(0, len(config) - 1))
    line = lines[places[target]].replace("\n", newline)
    before = newline.join(part.replace("\n", newline) for part in lines[: places[target]]) + newline
    return text, config[target], before, line


@given(hand_formatted(), value)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_set_keeps_every_byte_outside_the_value(made, new):
    text, name, before, line = made
    path = ["tool", "flwr", "app", "config", name]
    old = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    changed = set_value(text, path, new)
    assert tomllib.loads(changed)["tool"]["flwr"]["app"]["config"] == {**old, name: new}
    head, rest = before + line[: line.index("=") + 1], text[len(before) + len(line) :]
    assert changed.startswith(head)
    assert changed.endswith(rest)
    middle = changed[len(head) : len(changed) - len(rest)]
    blank = len(line[line.index("=") + 1 :]) - len(line[line.index("=") + 1 :].lstrip(" \t"))
    assert middle[:blank] == line[line.index("=") + 1 :][:blank]
    literal = middle[blank:]
    tail = next(end for end in range(len(literal) + 1) if _is_value(literal[:end], new) and not literal[end:].strip(" \t").partition("#")[0])
    assert line.endswith(literal[tail:])  # space and comment behind the value


@given(hand_formatted())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_unset_takes_one_line_and_a_new_key_adds_one(made):
    text, name, before, line = made
    path = ["tool", "flwr", "app", "config"]
    without = remove(text, [*path, name])
    rest = text[len(before) + len(line) :]
    assert without == before + rest.removeprefix("\r\n" if rest.startswith("\r\n") else "\n")
    added = set_value(text, [*path, "brand-new"], 1)
    new_lines = [line for line in added.splitlines(keepends=True) if "brand-new" in line]
    assert len(new_lines) == 1
    assert added.replace(new_lines[0], "").rstrip("\r\n") == text.rstrip("\r\n")


def _is_value(literal: str, expected: object) -> bool:
    try:
        got = tomllib.loads(f"x = {literal}")["x"]
    except tomllib.TOMLDecodeError:
        return False
    return type(got) is type(expected) and got == expected
