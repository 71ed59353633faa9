"""Where settings come from, and that files are only read."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from primepods import ConfigError
from primepods.config import DEFAULT_BASE_URL, KEY_PAGE, explain

from .resolving import KEY, OTHER, Files, refuse, settings, told


def test_arguments_come_before_environment_and_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three settings, peeled off source by source, down to the default."""
    files.write("config.json", {"api_key": "f", "team_id": "tf", "base_url": "https://file.example.com"})
    monkeypatch.setenv("PRIME_API_KEY", "e")
    monkeypatch.setenv("PRIME_TEAM_ID", "te")
    monkeypatch.setenv("PRIME_API_BASE_URL", "https://first.example.com")
    monkeypatch.setenv("PRIME_BASE_URL", "https://second.example.com")
    assert told(api_key="a", base_url=OTHER, team_id="ta") == ("a", OTHER, "ta")
    assert told() == ("e", "https://first.example.com", "te")
    monkeypatch.delenv("PRIME_API_BASE_URL")
    assert told() == ("e", "https://second.example.com", "te")
    monkeypatch.delenv("PRIME_BASE_URL")
    monkeypatch.delenv("PRIME_TEAM_ID")
    assert told() == ("e", "https://file.example.com", "tf")
    monkeypatch.delenv("PRIME_API_KEY")
    assert told() == ("f", "https://file.example.com", "tf")
    files.write("config.json", {"api_key": "f"})
    assert told() == ("f", "https://api.primeintellect.ai", None)


def test_blank_variables_are_as_good_as_none(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is how shells and containers say "unset"; blanks around a value are none of it."""
    for name in ("PRIME_API_KEY", "PRIME_TEAM_ID", "PRIME_API_BASE_URL", "PRIME_BASE_URL", "PRIME_CONTEXT"):
        monkeypatch.setenv(name, " \n")
    files.write("config.json", {"api_key": " f\n", "team_id": " ", "base_url": ""})
    assert told() == ("f", DEFAULT_BASE_URL, None)
    monkeypatch.setenv("PRIME_API_KEY", " e\n")
    assert told()[0] == "e"
    assert told(api_key=" a\n")[0] == "a"


def test_a_key_that_is_nowhere_is_asked_for(files: Files) -> None:
    """With the places that were looked at, where keys come from and which permission they need."""
    for content in (None, {}, {"api_key": ""}, {"api_key": None, "team_id": None, "base_url": None}):
        if content is not None:
            files.write("config.json", content)
        message = refuse()
        for part in ("api_key", "PRIME_API_KEY", "~/.prime/config.json", KEY_PAGE, "Instances (Read"):
            assert part in message


def test_a_variable_that_would_be_ignored_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a context as an argument, the key of the environment is not used."""
    monkeypatch.setenv("PRIME_API_KEY", "e")
    assert "PRIME_API_KEY" not in refuse(context="production")
    assert explain(context="production")[0].source == "no file has one"


@pytest.mark.parametrize("name", ["api_key", "base_url", "team_id"])
def test_an_empty_argument_is_a_mistake(name: str) -> None:
    """Usually a variable that was not set: it must not turn into somebody else's key from a file."""
    for value in ("", "  "):
        assert refuse(**{"api_key": "k", name: value}).startswith(f"The argument {name} is empty.")


@pytest.mark.parametrize("context", [None, "production", "staging", "nowhere"])
@pytest.mark.parametrize("exists", [True, False])
def test_files_are_only_read(
    files: Files, monkeypatch: pytest.MonkeyPatch, context: str | None, exists: bool
) -> None:
    """None is created, changed or touched, whatever is asked for, and whether it works or not."""
    if exists:
        files.write("config.json", {"api_key": KEY, "team_id": "t"})
        files.write("environments/staging.json", {"api_key": "s"})
    if context is not None:
        monkeypatch.setenv("PRIME_CONTEXT", context)
    before = files.state()
    for arguments in ({}, {"api_key": "k"}, {"api_key": "k", "base_url": OTHER}):
        try:
            settings(**arguments)
        except ConfigError:
            assert context is not None or not exists
    assert files.state() == before
    assert files.folder.exists() == exists


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "cut": (f'{{"api_key": "{KEY}"'.encode(), "it is not JSON"),
    "a comma too many": (f'{{"api_key": "{KEY}",}}'.encode(), "it is not JSON"),
    "empty": (b"", "it is not JSON"),
    "the bare key": (KEY.encode(), "it is not JSON"),
    "no UTF-8": (b'{"api_key": "\xff' + KEY.encode() + b'"}', "it is not JSON"),
    "bottomless": (b"[" * 100_000, "it is not JSON"),
    "a number without end": (b'{"a": ' + b"9" * 5_000 + b"}", "it is not JSON"),
    "a list": (json.dumps([KEY]).encode(), "it is not a JSON object"),
    "a string": (json.dumps(KEY).encode(), "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("where", ["config.json", "environments/staging.json"])
def test_a_file_that_cannot_be_used_is_named_without_its_content(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """With what is wrong and what to do, and without the key that stands in it."""
    content, reason = UNUSABLE[name]
    path = files.write(where, content)
    if "staging" in where:
        monkeypatch.setenv("PRIME_CONTEXT", "staging")
    for arguments in ({}, {"api_key": "k"}, {"base_url": OTHER}):
        assert refuse(**arguments).startswith(
            f"{path} cannot be used: {reason}. Repair or remove it, or give both"
        )
    assert told(api_key="k", base_url=OTHER) == ("k", OTHER, None)


def test_a_file_that_may_not_be_read_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the system says about it; with key and host given it does not matter."""
    path = files.write("config.json", {"api_key": KEY})

    def forbidden(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert refuse().startswith(f"{path} cannot be used: Permission denied. Repair or remove it")
    assert told(api_key="k", base_url=OTHER) == ("k", OTHER, None)


def test_a_file_and_a_folder_may_be_mixed_up(files: Files) -> None:
    """A folder in place of the file is named; in a file in place of the folder nothing can be."""
    files.folder.write_text("")
    assert "No API key found" in refuse()
    files.folder.unlink()
    (files.folder / "config.json").mkdir(parents=True)
    assert "config.json cannot be used: " in refuse()


@pytest.mark.parametrize("name", ["api_key", "base_url", "team_id"])
@pytest.mark.parametrize("value", [5, True, [KEY], {"a": KEY}])
def test_a_field_of_the_wrong_type_is_named(files: Files, name: str, value: Any) -> None:
    """With the file, the field and the type."""
    path = files.write("config.json", {"api_key": KEY, name: value})
    kind = type(value).__name__
    assert refuse() == f"{path}: {name} must be a string, not {kind}. Correct the file."


def test_a_file_written_on_windows_is_read(files: Files) -> None:
    """A byte order mark does no harm."""
    files.write("config.json", json.dumps({"api_key": "f"}).encode("utf-8-sig"))
    assert told()[0] == "f"


def test_without_a_home_there_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in some containers."""

    def nowhere() -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.setattr(Path, "home", nowhere)
    assert told(api_key="k") == ("k", DEFAULT_BASE_URL, None)
