"""A wrong run configuration is refused before anything starts, with a sentence that helps."""
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poweranger.errors import UserError
from poweranger.run_config import (
    BY_NAME,
    KEYS,
    check_all,
    find_key,
    from_environment,
    from_pyproject,
    markdown_table,
    parse_overrides,
    resolve,
)

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("image-size=4", ["image-size", "16", "1024"]),
        ("learning-rate=nan", ["learning-rate", "nan", "number"]),
        ("learning-rate=inf", ["learning-rate"]),
        ("learning-rate=" + "9" * 400, ["learning-rate", "from 0 to 10"]),
        ("image-size=\x1b]0;x", ["image-size = '\\x1b]0;x'"]),
        ("augment=3", ["augment", "true or false"]),
        ("batch-size=2.5", ["batch-size", "integer"]),
        ("lr-schedule=linear", ["lr-schedule", "cosine", "constant"]),
        ("imge-size=32", ["imge-size", "did you mean image-size"]),
        ("image_size=32", ["image_size", "did you mean image-size"]),
        ("zzz=1", ["zzz", "README"]),
        ("image-size", ["image-size", "key=value"]),
        ("fraction-fit=0", ["fraction-fit"]),
        ("classes=benign", ["classes", "two"]),
    ],
)
def test_wrong_value_is_named(text: str, names: list[str]) -> None:
    with pytest.raises(UserError) as error:
        resolve(parse_overrides(text))
    assert all(name in str(error.value) for name in names), str(error.value)
    assert "\n" not in str(error.value)


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.flwr.app.config]\nnum-server-rounds = 5\nimage-size = 64\nbatch-size = 8\n")
    values = resolve(from_pyproject(file), from_environment({"ROUNDS": "7", "IMAGE_SIZE": "48", "FRACTION_FIT": ""}), parse_overrides("image-size=32"))
    assert (values["num-server-rounds"], values["image-size"], values["batch-size"], values["fraction-fit"]) == (7, 32, 8, 0.3)


def test_environment_error_names_the_variable() -> None:
    with pytest.raises(UserError, match="ROUNDS.*num-server-rounds"):
        from_environment({"ROUNDS": "many"})


def test_broken_pyproject_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.flwr.app.config\n")
    with pytest.raises(UserError, match="pyproject.toml cannot be read.*line 1"):
        from_pyproject(file)
    assert from_pyproject(tmp_path / "none.toml") == {}


def test_an_integer_serves_as_number_but_a_boolean_as_none() -> None:
    assert check_all({"learning-rate": 1}) == {"learning-rate": 1.0}
    with pytest.raises(UserError):
        check_all({"batch-size": True})


def test_text_needs_no_quotes_and_takes_them() -> None:
    assert parse_overrides('classes="a b,c" lr-schedule=constant') == {"classes": "a b,c", "lr-schedule": "constant"}


@given(st.sampled_from(KEYS), st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())))
def test_check_accepts_only_what_it_says(key: object, value: object) -> None:
    assert isinstance(key, type(KEYS[0]))
    try:
        checked = key.check(value)
    except UserError as error:
        assert key.name in str(error)
        return
    assert type(checked) is type(key.default)
    assert not isinstance(checked, float) or (key.low is None or checked >= key.low)


def test_defaults_are_allowed_and_in_pyproject() -> None:
    assert resolve({}) == {key.name: key.check(key.default) for key in KEYS}
    assert from_pyproject(PROJECT / "pyproject.toml") == {key.name: key.default for key in KEYS if key.reader != "site"} | {
        name: value for name, value in from_pyproject(PROJECT / "pyproject.toml").items() if BY_NAME[name].reader == "site"}


def test_readme_table_is_the_generated_one() -> None:
    assert markdown_table() in (PROJECT / "README.md").read_text(encoding="utf-8"), "run: python -m poweranger.run_config"


def test_find_key_by_name() -> None:
    assert find_key("image-size").environment == "IMAGE_SIZE"
