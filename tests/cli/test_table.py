"""Tables: what is cut and left out where there is not enough room, whatever stands in them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from primepods.cli._table import Column, render_table
from primepods.cli._text import printable

COLUMNS = (
    Column("ID"),
    Column("NAME", least=6, rank=1),
    Column("PRICE", right=True),
    Column("WHERE", rank=2),
)


def lines(*rows: tuple[str, str, str, str], width: int | None) -> list[str]:
    """The lines of a table, its heading apart."""
    return render_table(COLUMNS, rows, width=width, colour=False).splitlines()[1:]


def test_what_matters_less_goes_first() -> None:
    """Columns of a high rank are left out, then texts cut, then others left out; an id is neither."""
    row = ("0123456789", "a long name", "12.50", "eu")
    assert lines(row, width=None) == ["0123456789  a long name  12.50  eu"]
    assert lines(row, width=36) == ["0123456789  a long name  12.50"]
    assert lines(row, width=25) == ["0123456789  a lon…  12.50"]
    assert lines(row, width=20) == ["0123456789  12.50"]
    assert lines(row, width=1) == ["0123456789  12.50"]


def test_what_holds_nothing_goes_first() -> None:
    """An empty column leaves its room to those that hold something, if there is too little."""
    columns = (Column("ID"), Column("SSH", rank=1), Column("FAILURE", least=12))
    rows = [("0123456789", "ssh root@host", "")]
    shown = render_table(columns, rows, width=27, colour=False).splitlines()
    assert shown == ["ID          SSH", "0123456789  ssh root@host"]
    assert "FAILURE" in render_table(columns, rows, width=40, colour=False)


def test_wide_characters() -> None:
    """Two columns each, also where the text is cut."""
    row = ("0", "\N{CJK UNIFIED IDEOGRAPH-6C34}" * 8, "1", "")
    assert lines(row, width=None) == [f"0   {row[1]}      1"]
    assert all(cell_len(line) <= 20 for line in lines(row, width=20))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.text()] * 4), max_size=4), st.integers(1, 200))
def test_any_text_at_any_width(rows: list[tuple[str, str, str, str]], width: int) -> None:
    """A row is a line, which is as wide as the terminal at most, if what is never cut leaves room."""
    shown = lines(*rows, width=width)
    assert len(shown) == len(rows)
    kept = max([cell_len(printable(row[0], longest=200)) for row in rows] + [2])
    kept += max([cell_len(printable(row[2], longest=200)) for row in rows] + [5]) + 2
    assert all(cell_len(line) <= max(width, kept) for line in shown)
