"""Text from the server: it may hold anything, and does no harm where we show or use it."""

import contextlib
import io
import logging
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

import primepods
from primepods import SSHTarget
from primepods.cli import demo
from primepods.cli._shared.screen import Screen
from primepods.emulator import Emulator
from tests.support.client import serve
from tests.support.clock import ManualClock
from tests.support.server import Answer, Reply, reply

TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[1;31m\r\n\x9b31m\x08\x00\u202eevil\u2066\u200b\x7f"
"""Sets the title, clears the screen, changes the colour, begins a line of its own, turns text around."""
MARKUP = "[bold red]loud[/] [link=https://evil.example.test]click[/link] [/] :skull: [blink]"
NASTY = TERMINAL + MARKUP
LONG = NASTY * 2_000

ROW: dict[str, Any] = {"podId": "a", "providerType": NASTY, "costPerHr": 1.0}
STATUSES: dict[str, dict[str, Any]] = {
    "unknown state": {**ROW, "status": NASTY, "installationStatus": NASTY, "installationProgress": 5},
    "long state": {**ROW, "status": LONG},
    "failure": {**ROW, "status": "ERROR", "installationFailure": NASTY},
    "long failure": {**ROW, "status": "ERROR", "installationFailure": LONG},
    "failed installation": {
        **ROW,
        "status": "ACTIVE",
        "installationStatus": "ERROR",
        "installationFailure": NASTY,
    },
    "address": {**ROW, "status": "ACTIVE", "sshConnection": NASTY, "ip": NASTY},
    "ports": {
        **ROW,
        "status": "ERROR",
        "primePortMapping": [{"internal": NASTY, "external": NASTY, "usedBy": NASTY}],
    },
    "strange field": {**ROW, "status": "ERROR", NASTY: NASTY},
    "wrong type": {**ROW, "status": {NASTY: NASTY}},
    "wrong id": {**ROW, "podId": [NASTY]},
    "wrong place": {**ROW, "primePortMapping": [{NASTY: NASTY}]},
}
ANSWERS: dict[str, Answer] = {
    **{name: reply({"data": [row]}) for name, row in STATUSES.items()},
    **{
        f"{status} {name}": reply(body, status)
        for status in (400, 422)
        for name, body in {
            "detail": {"detail": NASTY},
            "long": {"detail": LONG},
            "fields": {"errors": [{"param": NASTY, "details": NASTY}]},
            "loc": {"detail": [{"loc": ["query", NASTY], "msg": NASTY}]},
            "nested": {"error": {NASTY: [NASTY]}},
            "list": [NASTY],
        }.items()
    },
    **{f"{status}": reply({"detail": NASTY}, status) for status in (404, 429, 503)},
    "text": Reply(500, NASTY.encode()),
    "HTML": Reply(200, b"<html>" + NASTY.encode(), headers={"Content-Type": "text/html"}),
    "no JSON": Reply(200, b'{"a' + NASTY.encode()),
    "redirect": Reply(307, headers={"Location": "http://evil.example.test/\x1b]0;owned"}),
    "encoding": Reply(200, b"{}", headers={"Content-Encoding": "\x1b]0;owned"}),
}


def is_harmless(text: str) -> bool:
    """Whether a text can be printed: no control codes, no marks that turn it around, one line."""
    return text.isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
async def test_no_message_and_no_log_steers_a_terminal(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Errors, their notes and `repr`, failure texts, log lines: printable, in one line, and not endless."""
    caplog.set_level(logging.DEBUG)
    clock = ManualClock(auto=True)
    texts: list[str] = []

    def told(change: primepods.PodChange) -> None:
        texts.extend((repr(change), f"{change}"))
        if change.after is not None:
            texts.extend((change.after.failure or "", str(change.after.ssh), repr(change.after.nodes)))
            texts.append(repr(change.after.endpoint(8000)))
            texts.append(repr(change.after.jupyter_url))

    async with serve(default=ANSWERS[name], clock=clock, deadline=20) as (_server, client):
        pods = client.pods
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: pods.statuses(["a"]),
            lambda: pods.status("a"),
            lambda: pods.get("a"),
            pods.page,
            lambda: pods.delete("a"),
            lambda: pods.wait(["a"], timeout=30, on_change=told, install_grace=0),
            lambda: pods.wait_gone("a", timeout=30, on_change=told),
        ]
        for call in calls:
            try:
                texts.append(repr(await call()))
            except primepods.PrimePodsError as error:
                texts += [str(error), *getattr(error, "__notes__", [])]
        (await pods.delete_many(["a", "b"])).errors.values()
        with contextlib.suppress(primepods.PrimePodsError):
            (await pods.delete_many(["a", "b"])).raise_for_errors()
    texts += [record.getMessage() for record in caplog.records if record.name == "primepods"]
    assert len(texts) > 10
    assert [text for text in texts if not is_harmless(text)] == []
    if "long" not in name:
        return
    # Only `repr` and `failure` give it in full: they are the data.
    assert all(
        len(text) < 2_500 for text in texts if "PodStatus(" not in text and "status ERROR" not in text[:20]
    )


def fleet() -> Emulator:
    """Pods that say nasty things, booting and failing at once."""
    emulator = Emulator(boot_seconds=0.0, delete_seconds=0.0, speed=100.0)
    for n in range(4):
        # JSON of the emulator's own cannot hold half of what a terminal obeys: these are whole characters.
        emulator.add_pod(
            f"{n}{NASTY}", gpu_name=NASTY, provider=NASTY, failure=NASTY if n % 2 else None, boot_seconds=0.0
        )
    return emulator


@pytest.mark.parametrize("terminal", [True, False])
async def test_the_command_shows_names_and_reasons_as_text(*, terminal: bool) -> None:
    """Nothing that a pod is called or fails with reaches the terminal as anything but letters."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=terminal,
        width=500,
        height=50,  # without it, rich takes 80 columns where TERM is dumb
        highlight=False,
        markup=False,
        emoji=False,
        color_system="truecolor" if terminal else None,
    )
    await demo._run(fleet(), Screen(console), timeout=200.0)
    shown = out.getvalue()
    assert "[bold red]loud" in shown
    for part in (
        "\x1b]0;",
        "\x07",
        "\x1b[2J",
        "\x9b",
        "\x08",
        "\x00",
        "\u202e",
        "\u2066",
        "\x7f",
        "\x1b[1;31m",
    ):
        assert part not in shown, f"{part!r} is shown"
    assert "\x1b]8;" not in shown, "a link was made"
    assert terminal or "\x1b" not in shown


@pytest.fixture(scope="module")
def ssh() -> str:
    """The real one."""
    found = shutil.which("ssh")
    if found is None:
        pytest.skip("ssh is not installed")
    return found


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    user=st.from_regex(r"[A-Za-z0-9_.+-]{1,12}", fullmatch=True),
    host=st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True),
    port=st.integers(1, 65_535),
)
@example(user="root", host="-oProxyCommand=id", port=22)
@example(user="-oProxyCommand=id", host="h", port=22)
def test_ssh_itself_reads_what_we_mean(ssh: str, user: str, host: str, port: int) -> None:
    """``ssh -G`` prints what it understood of our words: that user, that host, that port, no command."""
    try:
        target = SSHTarget(user, host, port)
    except ValueError:
        return
    words = [ssh, "-G", "-F", "/dev/null", *target.argv()[1:]]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout
    found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert (found["user"], int(found["port"])) == (user, port)
    # A number it takes for an address, and writes it out.
    assert found["hostname"].lower() == host.lower() or not re.search("[g-wyz]", host.lower())
    assert "proxycommand" not in found
    assert "localcommand" not in found
