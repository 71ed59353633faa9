"""`primepods watch`: as lines, as JSON lines, and on a screen."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from primepods.emulator import Emulator, ManualClock, Status
from tests.cli.conftest import Run, in_terminal, name_api, set_size

HOME = "\x1b[H"
QUICK = ("--interval", "0.1s")


def soon(emulator: Emulator, *steps: tuple[int, Callable[[], object]]) -> None:
    """Do things one after the other, in a thread, each when so many further requests have come."""

    def act() -> None:
        for further, action in steps:
            count = len(emulator.requests) + further
            while len(emulator.requests) < count:
                time.sleep(0.01)
            action()

    threading.Thread(target=act, daemon=True).start()


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def test_a_line_for_each_change_of_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time, the id, the name and how it is; the watch ends when all that were named are gone."""
    with Emulator(clock=ManualClock(), delete_seconds=0) as emulator:
        name_api(emulator, monkeypatch)
        emulator.add_pod("boots", id="new", boot_seconds=60)
        emulator.add_pod(id="bad", failure="no space left", boot_seconds=60)
        delete = emulator.delete_pod
        soon(
            emulator,
            (5, lambda: emulator.advance(61)),
            (5, lambda: delete("bad")),
            (0, lambda: delete("new")),
        )
        result = run("watch", "boots", "bad", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split("  ", 3) for line in result.stdout.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time, *_ in lines)
    assert {(pod_id, name) for _, pod_id, name, _ in lines if pod_id == "new"} == {("new", "boots")}
    first, ready, last = (words for _, pod_id, _, words in lines if pod_id == "new")
    assert (first, last) == ("pending", "gone")
    assert ready.startswith("ready: ssh -p")
    assert [words for _, pod_id, _, words in lines if pod_id == "bad"][1] == ("failed: no space left")


def test_json_lines_have_every_change(emulator: Emulator, run: Run) -> None:
    """As `to_dict()` of a change, and the time."""
    soon(emulator, (6, lambda: emulator.delete_pod("pod0")))
    result = run("watch", "pod0", "-o", "jsonl", *QUICK)
    first, last = map(json.loads, result.stdout.splitlines())
    assert set(first) == {"time", "pod_id", "before", "after"}
    assert (first["before"], first["after"]["is_ready"]) == (None, True)
    assert (last["before"], last["after"]) == (first["after"], None)


def test_filters_and_newcomers(emulator: Emulator, run: Run) -> None:
    """Without ids it goes on until Ctrl-C, which is quiet; who comes and matches joins."""
    emulator.add_pod("other", id="other")
    add = partial(emulator.add_pod, boot_seconds=0)
    soon(
        emulator,
        (6, lambda: add("other", id="other-newcomer")),
        (0, lambda: add("train-9", id="newcomer")),
        (19, interrupt),
    )
    result = run("watch", "--name", "train-*", *QUICK)
    assert (result.exit_code, result.stderr) == (130, "")
    assert {line.split("  ")[1] for line in result.stdout.splitlines()} == {
        "pod0",
        "pod1",
        "pod2",
        "newcomer",
    }


def test_on_a_screen(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen of its own, drawn in place; when it is left, the last figures stay."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm-256color")
    soon(emulator, (26, interrupt))
    code, shown = in_terminal(monkeypatch, "watch", *QUICK)
    assert code == 130
    before, _, rest = shown.partition("\x1b[?1049h")
    screen, _, after = rest.partition("\x1b[?1049l")
    assert before == ""
    frame = without_colours(screen.rsplit(HOME, maxsplit=1)[-1])
    assert re.search(r"^3 pods   \$7\.50 an hour   \$[\d.]+ so far *\n3 ready", frame)
    assert re.search(r"^pod1 +train-1 +ready +\d+ x H100_80GB +\$2\.50 +\d+s +ssh -p", frame, re.MULTILINE)
    assert without_colours(after).strip().splitlines()[-1] == "3 ready"


def without_colours(text: str) -> str:
    """What is left without the codes for terminals."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)


@pytest.mark.slow
def test_trouble_is_told_below_the_table(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log says does not tear the screen."""
    monkeypatch.setenv("TERM", "xterm-256color")
    soon(emulator, (4, lambda: emulator.faults.add(Status(503), on="status")), (106, interrupt))
    _, shown = in_terminal(monkeypatch, "watch", *QUICK)
    assert "503" in without_colours(shown.rsplit(HOME, maxsplit=1)[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_resized_and_ended(emulator: Emulator, number: signal.Signals, code: int) -> None:
    """What is drawn follows the terminal's size; Ctrl-C or a kill ends it, and leaves no table."""
    for index in range(60):
        emulator.add_pod(f"pod-{index:02}", boot_seconds=0)
    ours, theirs = pty.openpty()
    set_size(ours, 200)
    environment = os.environ | {"TERM": "xterm-256color", "NO_COLOR": "1"}
    for name in ("COLUMNS", "LINES"):  # whose word would count for more than the terminal's
        environment.pop(name, None)
    command = [sys.executable, "-W", "error", "-m", "primepods", "watch"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        # A frame may have been drawn before the size was changed.
        for columns, widths in ((200, range(81, 201)), (70, range(51, 71))):
            set_size(ours, columns)
            assert shows_rows(read_until(ours, partial(shows_rows, widths=widths)), widths)
        process.send_signal(number)
        rest = read_until(ours, lambda _: False)
    os.close(ours)
    assert process.returncode == code
    assert "Traceback" not in rest
    assert "63 ready" in rest.rpartition("\x1b[?1049l")[2]


def read_until(terminal: int, condition: Callable[[str], bool]) -> str:
    """Read what a terminal shows until a condition holds, or until its other side is closed."""
    shown = ""
    ends_at = time.monotonic() + 60
    while not condition(shown) and time.monotonic() < ends_at:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:  # how Linux says that the other side is closed
                break
    return shown


def shows_rows(shown: str, widths: range) -> bool:
    """Whether the last frame is whole, with all pods ready, and the first one takes so many columns."""
    frame = without_colours(shown.rsplit(HOME, maxsplit=1)[-1])
    row = re.search(r"^\w+ +pod-.*", frame, re.MULTILINE)
    if row is None or "more" not in frame or "63 ready" not in frame:
        return False
    return len(row[0].rstrip()) in widths
