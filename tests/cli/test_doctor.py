"""`primepods doctor`: what it finds, and that a report holds no key."""

import json
import os
import re
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods.emulator import Emulator
from tests.cli.conftest import Run, in_terminal
from tests.support.server import Answer, Hang, Received, Reply, Reset, Server, reply

KEY = "pit_a_key_of_doctor_0123456789"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFdoYXRldmVyIGl0IGlzLCBpdCBpcyAzMi4"


@pytest.fixture(autouse=True)
def machine(clean_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an ssh key, programs of its own, and a folder for lease files."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("ssh", "OpenSSH_9.9 >&2"), ("ssh-add", "The agent has no identities.")):
        program = programs / name
        program.write_text(f'#!/bin/sh\n[ -z "$PRIME_API_KEY" ] && echo {words}\n', encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs) + os.pathsep + "/usr/bin:/bin")
    folder = clean_environment / ".ssh"
    folder.mkdir()
    (folder / "id_ed25519.pub").write_text(f"{PUBLIC_KEY} me@here\n", encoding="utf-8")
    return clean_environment


def checks(result: Any) -> dict[str, tuple[str, str, str | None]]:
    """What a run found, by the names of the checks."""
    return {row["name"]: (row["result"], row["detail"], row["remedy"]) for row in json.loads(result.stdout)}


def test_all_is_well(emulator: Emulator, run: Run, machine: Path) -> None:
    """Each check has a line; only GETs are sent; no key and no home is shown, and no lease file is left."""
    with primepods.Client() as client:
        client.ssh_keys.add("mine", PUBLIC_KEY)
    (machine / ".ssh" / "a folder.pub").mkdir()
    sent = len(emulator.requests)
    result = run("doctor", "--json")
    found = checks(result)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {name: state for name, (state, _, _) in found.items()} == dict.fromkeys(
        ["versions", "key", "settings", "API", "clock", "permissions", "balance", "ssh", "lease folder"], "ok"
    )
    assert f"primepods {primepods.__version__}, Python 3." in found["versions"][1]
    assert found["key"][1] == "set, from environment variable PRIME_API_KEY"
    assert found["ssh"][1] == "OpenSSH_9.9; the account has the key of id_ed25519.pub"
    assert {entry.method for entry in list(emulator.requests)[sent:]} == {"GET"}
    assert emulator.api_key not in result.output
    assert str(machine) not in result.output
    assert not list(machine.glob("**/*.json"))
    lines = run("doctor").stdout.splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("ok       ") for line in lines)


def test_without_a_key(run: Run) -> None:
    """What can be checked is; the failure has its remedy, and the exit code says so."""
    result = run("doctor", "-o", "json")
    found = checks(result)
    assert result.exit_code == 1
    assert found["settings"][0] == "failure"
    assert "Create a key at" in found["settings"][1]
    assert "API" not in found
    assert found["ssh"][0] == "warning"
    shown = run("doctor").stdout.splitlines()
    assert shown[1].startswith("failure  settings: No API key")
    assert shown[2].startswith("         ")


def answer_keys(status: int) -> Callable[[Received], Answer]:
    """The lists can be read, but not the SSH keys."""

    def answer(request: Received) -> Answer:
        return reply({"detail": "no"}, status) if "ssh_keys" in request.path else well(request)

    return answer


def well(request: Received, **headers: str) -> Answer:
    """An empty account."""
    headers = {"Date": formatdate(usegmt=True)} | headers
    return reply({} if "gpu-summary" in request.path else {"data": [], "total_count": 0}, headers=headers)


def test_another_ssh_program_and_an_invalid_limit(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are a matter of that program; `config` shows the limit and its source before the error."""
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", "tsh ssh")
    assert checks(run("doctor", "--json"))["ssh"][:2] == (
        "ok",
        "PRIMEPODS_SSH_COMMAND is set; its keys are not checked",
    )
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "20 dollars")
    found = checks(run("doctor", "--json"))["settings"]
    assert (found[0], "must be a number of at least 0, got '20 dollars'" in found[1]) == ("failure", True)
    shown = run("config")
    assert (shown.exit_code, "20 dollars" in shown.stdout) == (2, True)
    assert "PRIMEPODS_MAX_HOURLY) must be a number" in shown.stderr


FINDINGS: dict[str, tuple[Any, str, str, str]] = {
    "another key": (reply({"detail": "Not authenticated"}, 401), "permissions", "failure", "does not accept"),
    "nothing may be read": (reply({"detail": "no"}, 403), "permissions", "failure", "may not read pods"),
    "ssh keys may not be read": (answer_keys(403), "permissions", "warning", "may not read SSH keys; reads"),
    "a web page": (Reply(200, b"<html>log in"), "API", "failure", "API"),
    "another service": (reply({"status": "ok"}), "API", "failure", "data"),
    "a row that is none": (reply({"data": [7], "total_count": 1}), "permissions", "failure", "data[0]"),
    "an outage": (Reply(503), "permissions", "failure", "503"),
    "the key in an error": (reply({"detail": f"bad {KEY}"}, 400), "permissions", "failure", "[redacted]"),
    "no response": (Hang(), "API", "failure", "in time"),
    "a reset": (Reset(), "API", "failure", "reset"),
    "no time": (lambda request: well(request, Date=""), "clock", "warning", "does not state its time"),
    "another time": (
        lambda request: well(request, Date="Mon, 05 Jan 2026 00:00:00 GMT"),
        "clock",
        "warning",
        "s ahead of the server's",
    ),
}


@pytest.mark.parametrize(("answer", "name", "state", "words"), FINDINGS.values(), ids=FINDINGS)
def test_what_is_wrong_with_the_api(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, answer: Any, name: str, state: str, words: str
) -> None:
    """Whatever a server does, it is a line with a remedy, without the key; the other checks are made."""
    made = Server(default=answer) if isinstance(answer, Answer) else Server(answer)
    with made.in_thread() as server:
        monkeypatch.setenv("PRIME_API_KEY", KEY)
        monkeypatch.setenv("PRIME_API_BASE_URL", server.url)
        # A busy machine may need seconds for a response.
        result = run("doctor", "--json", "--timeout", "0.3s" if isinstance(answer, Hang) else "20s")
    found = checks(result)
    assert found[name][0] == state, found
    assert words in found[name][1]
    remedy = found[name][2]
    assert remedy
    assert "Create a key" not in found[name][1]
    assert found["lease folder"][0] == "ok"
    assert result.exit_code == (state == "failure")
    assert KEY not in result.output


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ({"instances": {"read": True, "write": True}}, ("ok", "may delete pods")),
        (
            {"instances": {"read": True, "write": False}},
            ("failure", "The watchdog's key may not delete pods."),
        ),
        ({}, ("ok", "set; the API does not tell its permissions")),
        (None, ("failure", "The watchdog's key is not accepted by the API.")),
    ],
)
def test_the_key_of_watchdogs(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, scope: Any, found: tuple[str, str]
) -> None:
    """What the API tells of its permissions; it is not shown."""
    key = "unknown-watchdog-key" if scope is None else emulator.add_api_key(scope)
    monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
    result = run("doctor", "--output", "json")
    [check] = [check for check in json.loads(result.stdout) if check["name"] == "watchdog key"]
    assert (check["result"], check["detail"][: len(found[1])]) == found
    assert key not in result.stdout + result.stderr


def test_an_unreadable_pod_is_no_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API has responded: the other checks are made, and the remedy does not blame the network."""

    def answer(request: Received) -> Answer:
        is_pods = request.path == "/api/v1/pods/"
        return reply({"data": [7], "total_count": 1}) if is_pods else well(request)

    with Server(answer).in_thread() as server:
        monkeypatch.setenv("PRIME_API_KEY", KEY)
        monkeypatch.setenv("PRIME_API_BASE_URL", server.url)
        found = checks(run("doctor", "--json", "--timeout", "20s"))
    assert (found["API"][0], found["clock"][0], found["permissions"][0]) == ("ok", "ok", "failure")
    assert found["permissions"][2] == (
        "Check the base URL and the proxy. If they lead to the API, report this."
    )


def test_all_keys_of_the_account_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those after the first page, here of two."""
    texts = ("ssh-rsa A", "ssh-rsa B", PUBLIC_KEY)
    keys = [{"id": text, "name": "a", "publicKey": text} for text in texts]

    def answer(request: Received) -> Answer:
        if "ssh_keys" not in request.path:
            return well(request)
        offset = int(next(iter(request.values("offset")), 0))
        return reply({"data": keys[offset : offset + 2], "total_count": 3, "offset": offset, "limit": 2})

    with Server(answer).in_thread() as server:
        monkeypatch.setenv("PRIME_API_KEY", KEY)
        monkeypatch.setenv("PRIME_API_BASE_URL", server.url)
        found = checks(run("doctor", "--json", "--timeout", "20s"))
    assert found["ssh"][1] == "OpenSSH_9.9; the account has the key of id_ed25519.pub"


def test_what_is_wrong_with_this_machine(
    emulator: Emulator, run: Run, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the account lacks, no ssh at all, and a lease folder that is none."""
    assert "the account has none of the keys of id_ed25519.pub" in run("doctor").stdout
    (machine / ".ssh" / "id_ed25519.pub").unlink()
    assert "no key in ~/.ssh" in run("doctor").stdout
    monkeypatch.setenv("PATH", str(machine))
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(machine / ".ssh" / "x"))
    (machine / ".ssh" / "x").touch()
    result = run("doctor", "--json")
    found = checks(result)
    assert found["ssh"][:2] == ("warning", "not installed")
    assert found["lease folder"][0] == "failure"
    assert result.exit_code == 1


@pytest.mark.parametrize("home", ["~", "/", ".", None], ids=["unknown", "the root", "this folder", "prefix"])
def test_a_home_that_is_in_no_path(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    """As in a container: all checks are made, and only a real home folder is shown as ``~``."""
    monkeypatch.setenv("HOME", home or str(tmp_path)[:-1])
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    assert checks(result)["lease folder"][1] == f"{tmp_path} can be written, and locks work"
    assert f"{emulator.url} responds in" in checks(result)["API"][1]


def test_a_terminal_gets_lines_that_end_between_words(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a check stands in one column."""
    _, shown = in_terminal(monkeypatch, "doctor", columns=50)
    lines = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 50
    assert any(line.startswith(" " * 9 + "PRIME_API_BASE_URL") for line in lines), lines
