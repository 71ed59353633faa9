"""`primepods run --watchdog`: the pod goes though the process of its run does not live."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.support.eventually import wait_for
from tests.support.processes import start_command

from .conftest import Run
from .test_run import LOCAL_SSH, here, market
from .test_runs import BOUNDED, go, records

__all__ = ["here", "market"]


def test_a_run_whose_process_was_killed_gives_its_pod_back(
    market: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some time after its command; no record and no message has the key."""
    key = market.add_api_key({"instances": {"read": True, "write": True}})
    monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
    words = ["--watchdog", "--after-job", "1s", "--", "until [ -e ~/go ]; do sleep 0.1; done"]
    started = run("run", "-d", *BOUNDED, *words)
    assert started.exit_code == 0, started.stderr
    assert "while this machine is awake" not in started.stderr
    os.kill(records(tmp_path)[0]["pid"], signal.SIGKILL)
    go(tmp_path)
    wait_for(lambda: not market.pods)
    assert key not in started.stderr + "".join(
        path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()
    )
    for file in tmp_path.rglob(".primepods/watchdog/*/on"):
        for pid in file.read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def test_a_detached_run_says_what_its_limit_needs(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Without a watchdog, a machine that is awake; it says so once."""
    started = run("run", "-d", *BOUNDED, "--", "true")
    assert started.stderr.count("while this machine is awake") == 1


@pytest.mark.slow
@pytest.mark.parametrize("is_idle", [False, True])
def test_a_lost_pod_is_replaced_unless_its_watchdog_may_have_deleted_it(
    market: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_idle: bool
) -> None:
    """While a command runs, only idle GPUs are a reason for its watchdog."""
    monkeypatch.setenv(
        "PRIMEPODS_WATCHDOG_KEY", market.add_api_key({"instances": {"read": True, "write": True}})
    )
    idle, last = (["--idle", "1h"], "") if is_idle else ([], "try 1")
    words = ["--ssh-command", f"{LOCAL_SSH} --emulator {market.url}", "--watchdog", *idle, "--restarts", "1"]
    line = "echo try ${PRIMEPODS_RESTART:-0}; until [ -e ~/go ]; do sleep 0.1; done"
    name = run("run", "-d", *BOUNDED, *words, "--", line).stdout.strip()
    reader = start_command("attach", name)
    assert reader.line() == "try 0"
    market.delete_pod(next(iter(market.pods)))
    assert reader.line() == last
    go(tmp_path)
    _, err = reader.communicate(timeout=120)
    assert reader.returncode == (0 if last else 4), err
    assert not market.pods


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--watchdog"], "--watchdog needs --max-hours or --max-spend"),
        (["--watchdog", "--max-hours", "1", "--keep"], "and no --keep"),
        (["--watchdog", "--max-hours", "1"], "needs a key of its own in PRIMEPODS_WATCHDOG_KEY"),
        (["--watchdog", "--max-hours", "1", "--watchdog-key", "secret"], "takes `own` only"),
        (["--idle", "30m"], "need --watchdog"),
    ],
)
def test_what_no_watchdog_can_do_is_refused(market: Emulator, run: Run, words: list[str], match: str) -> None:
    """Before the first request."""
    result = run("run", "--gpu-type", "H100", *words, "--", "true")
    assert (result.exit_code, match in " ".join(result.stderr.split())) == (2, True), result.stderr
    assert not list(market.requests)
