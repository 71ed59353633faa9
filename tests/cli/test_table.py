"""Tables: what is cut and left out where there is not enough room, whatever stands in them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from primepods.cli._table import Column, render_table

COLUMNS = (
    Column("ID"),
    Column("NAME", min_width=6, rank=1),
    Column("PRICE", right=True),
    Column("WHERE", rank=2),
)


def lines(*rows: tuple[str, str, str, str], width: int | None) -> list[str]:
    """The lines of a table, its heading apart."""
    return render_table(COLUMNS, rows, width=width, colour=False).splitlines()[1:]


def test_what_matters_less_goes_first() -> None:
    """Columns of a high rank are left out, then texts cut, then others left out, and at last ids cut."""
    row = ("0123456789", "a long name", "12.50", "eu")
    assert lines(row, width=None) == ["0123456789  a long name  12.50  eu"]
    assert lines(row, width=36) == ["0123456789  a long name  12.50"]
    assert lines(row, width=25) == ["0123456789  a lon…  12.50"]
    assert lines(row, width=20) == ["0123456789  12.50"]
    assert lines(row, width=14) == ["012345…  12.50"]


def test_what_holds_nothing_is_left_out() -> None:
    """An empty column is not shown on a terminal, be there room or not; a pipe has all columns."""
    columns = (Column("ID"), Column("SSH", rank=1), Column("FAILURE", min_width=12, rank=1))
    rows = [("0123456789", "ssh root@host", "")]
    for width in (27, 200):
        shown = render_table(columns, rows, width=width, colour=False).splitlines()
        assert shown == ["ID          SSH", "0123456789  ssh root@host"]
    assert "FAILURE" in render_table(columns, rows, width=None, colour=False)


def test_what_fits_comes_back() -> None:
    """A narrow column is shown although a wider one that matters more is not."""
    columns = (Column("ID"), Column("SSH", rank=1), Column("AGE", rank=2))
    rows = [("0123456789", "ssh root@host", "5m")]
    shown = render_table(columns, rows, width=20, colour=False).splitlines()
    assert shown == ["ID          AGE", "0123456789  5m"]


def test_wide_characters() -> None:
    """Two columns each, also where the text is cut."""
    row = ("0", "\N{CJK UNIFIED IDEOGRAPH-6C34}" * 8, "1", "")
    assert lines(row, width=None) == [f"0   {row[1]}      1"]
    assert all(cell_len(line) <= 20 for line in lines(row, width=20))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.text()] * 4), max_size=4), st.integers(1, 200))
def test_any_text_at_any_width(rows: list[tuple[str, str, str, str]], width: int) -> None:
    """A row is a line, which is as wide as the terminal at most, if that is not absurdly narrow."""
    shown = lines(*rows, width=width)
    assert len(shown) == len(rows)
    assert all(cell_len(line) <= max(width, 6) for line in shown)
