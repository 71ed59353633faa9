"""How the command looks in a terminal and outside of one."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from primepods.cli._shared.screen import Screen
from primepods.cli._shared.text import printable


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
        ("a\x1b[2Jb\x07", "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}"),
        (" two\r\n lines\t", "two lines"),
        ("x" * 90, "x" * 77 + "..."),
    ],
)
def test_text_from_elsewhere_is_harmless(text: str, shown: str) -> None:
    """Markup is shown and not obeyed; what steers a terminal is replaced; a long text is cut."""
    to, out = screen(terminal=True)
    to.say(printable(text))
    assert out.getvalue() == shown + "\n"


@given(st.text())
def test_whatever_comes_is_one_printable_line(text: str) -> None:
    """Nothing that a server can send leaves its line or its place."""
    shown = printable(text)
    assert len(shown) <= 80
    assert all(character.isprintable() for character in shown)
    assert len(shown.splitlines()) <= 1


def test_lines_elsewhere() -> None:
    """Outside of a terminal progress is a line for each tenth, without control codes."""
    to, out = screen(terminal=False)
    with to.meter("listed") as update:
        for done in range(101):
            update(done, 100)
            update(done, 100)
    assert out.getvalue() == "".join(f"listed: {done} of 100\n" for done in range(0, 101, 10))


def test_dumb_terminal_gets_lines() -> None:
    """A terminal that cannot move its cursor is treated like a pipe."""
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert not Screen(console).is_live
