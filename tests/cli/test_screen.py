"""How the command looks in a terminal and outside of one."""

import io
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from primepods.cli._screen import Screen, safe
from primepods.cli._table import Column


def screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    """A screen, and what is written to it."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=terminal,
        width=80,
        color_system=None,
        _environ={"TERM": "xterm"},
        highlight=False,
    )
    return Screen(console), out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]a100[/red]", "[red]a100[/red]"),
        (
            "a\x1b[2Jb\x9bc\x07",
            "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}",
        ),
        (" two\r\n lines\t", "two lines"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "\N{REPLACEMENT CHARACTER}gpj.exe"),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"),
        ("x" * 90, "x" * 77 + "..."),
        ("", ""),
    ],
)
def test_text_from_elsewhere_is_harmless(text: str, shown: str) -> None:
    """Markup is shown and not obeyed; what steers a terminal is replaced; a long text is cut."""
    to, out = screen(terminal=True)
    to.say(safe(text))
    assert out.getvalue() == shown + "\n"


@settings(deadline=None)
@given(st.text())
def test_whatever_comes_is_one_printable_line(text: str) -> None:
    """Nothing that a server can send leaves its line or its place."""
    shown = safe(text).plain
    assert len(shown) <= 80
    assert all(character.isprintable() for character in shown)
    assert len(shown.splitlines()) <= 1


def test_bar_in_a_terminal() -> None:
    """In a terminal progress is a bar with a word on the rest."""
    to, out = screen(terminal=True)
    with to.meter("settled") as meter:
        meter.update(3, 4, "3 ready")
    assert to.is_live
    assert "3/4" in out.getvalue()
    assert "3 ready" in out.getvalue()


def test_lines_elsewhere() -> None:
    """Outside of a terminal progress is a line for each tenth, without control codes."""
    to, out = screen(terminal=False)
    with to.meter("listed") as meter:
        for done in range(101):
            meter.update(done, 100)
            meter.update(done, 100)
    assert out.getvalue() == "".join(f"listed: {done} of 100\n" for done in range(0, 101, 10))


def test_lines_keep_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds even a small step is told."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    to, out = screen(terminal=False)
    with to.meter("settled") as meter:
        for done in range(5):
            meter.update(done, 1000, "going")
            now[0] += 1
    assert out.getvalue().splitlines() == [f"settled: {done} of 1000 (going)" for done in (0, 2, 4)]


def test_unknown_total() -> None:
    """Where the API does not say how many there are, the lines do not either."""
    to, out = screen(terminal=False)
    with to.meter("listed") as meter:
        meter.update(2, None)
    assert out.getvalue() == "listed: 2\n"


def test_dumb_terminal_gets_lines() -> None:
    """A terminal that cannot move its cursor is treated like a pipe."""
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert not Screen(console).is_live


def test_no_control_codes_outside_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets plain text even where the environment asks for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    to = Screen()
    to.heading("Part")
    to.table([Column("NAME"), Column("PODS", right=True)], [("a", "1")], total=("all", "1"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "all" in out


def test_narrow_encodings_do_not_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal's encoding lacks becomes a question mark."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Screen().say(safe("a\N{SNOWMAN}"))
    sys.stdout.flush()
    assert raw.getvalue() == b"a?\n"


def test_stdout_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's or a test's stdout need not be a real one."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    Screen().say("x")
    assert out.getvalue() == "x\n"
