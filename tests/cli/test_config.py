"""`primepods config`, and the options by which a command is told which API and account."""

import json
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.cli.conftest import Run


def save(home: Path, name: str, **fields: str) -> None:
    """Save a context as the official command does."""
    folder = home / ".prime" / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(fields), encoding="utf-8")


def test_where_settings_come_from(clean_environment: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its value and its source; of the key only that it is set."""
    monkeypatch.setenv("PRIME_API_KEY", "pit_the_key")
    save(
        clean_environment, "staging", api_key="pit_the_other", base_url="https://s.example.com", team_id="t1"
    )

    def settings(*arguments: str) -> dict[str, tuple[str | None, str]]:
        result = run("config", "-o", "json", *arguments)
        assert result.exit_code == 0, result.stderr
        assert "pit_" not in result.output
        return {row["name"]: (row["value"], row["source"]) for row in json.loads(result.stdout)}

    found = settings()
    assert found["api_key"] == ("set", "environment variable PRIME_API_KEY")
    assert found["base_url"] == ("https://api.primeintellect.ai", "the default")
    assert found["team_id"] == (None, "your own account")
    found = settings("--context", "staging", "--team", "t2")
    assert found["base_url"][0] == "https://s.example.com"
    assert "staging.json" in found["api_key"][1]
    assert found["team_id"] == ("t2", "argument team_id")
    assert found["context"] == ("staging", "argument context")
    save(clean_environment, "bare", api_key="pit_the_third")
    assert settings("--context", "bare")["base_url"] == ("https://api.primeintellect.ai", "the default")
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", "/x/y")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pit_password@proxy:3128")
    found = settings()
    assert found["lease_folder"] == ("/x/y", "environment variable PRIMEPODS_STATE_DIR")
    assert found["proxy"][0] == "set"
    assert run("config").stderr == "Contexts for --context: production, bare, staging\n"


def test_what_cannot_be_used_is_said(clean_environment: Path, run: Run) -> None:
    """Without a key the other settings are shown, and then what to do; a context must exist."""
    result = run("config", "-o", "jsonl")
    assert (result.exit_code, len(result.stdout.splitlines())) == (2, 7)
    assert "Create a key at" in result.stderr
    for command in ("config", "list"):
        unknown = run(command, "--context", "mistyped")
        assert (unknown.exit_code, "'mistyped' (--context) is not saved" in unknown.stderr) == (2, True)
    assert run("list", "--base-url", "http://example.com").exit_code == 2


def test_options_of_every_command(clean_environment: Path, run: Run, emulator: Emulator) -> None:
    """A context is enough to reach another API than the environment names; an address needs its key."""
    with Emulator(pods=1, api_key="second", boot_seconds=0) as other:
        save(clean_environment, "other", api_key="second", base_url=other.url)
        result = run("list", "--context", "other", "--ids")
        assert (result.exit_code, result.stdout.split()) == (0, list(other.pods))
        assert run("list", "-c", "other", "--base-url", emulator.url).exit_code == 2
        assert run("list", "--base-url", other.url).exit_code == 1, "the key is not that one's"
