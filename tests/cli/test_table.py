"""Tables: what is cut and left out where there is not enough room, whatever stands in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from primepods._utils.money import money
from primepods.cli._shared.table import Column, render_table

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


@given(st.lists(st.tuples(*[st.text()] * 4), max_size=4), st.integers(1, 200))
def test_any_text_at_any_width(rows: list[tuple[str, str, str, str]], width: int) -> None:
    """A row is a line, which is as wide as the terminal at most, if that is not absurdly narrow."""
    shown = lines(*rows, width=width)
    assert len(shown) == len(rows)
    assert all(cell_len(line) <= max(width, 6) for line in shown)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1.626, None, "$1.63"),
        (1234.5, "EUR", "€1,234.50"),
        (-2.0, "CHF", "-CHF 2.00"),
        (0.0, None, "$0.00"),
        (0.0012, "USD", "$0.0012"),
        (None, None, ""),
    ],
)
def test_money_has_one_format(amount: float | None, currency: str | None, text: str) -> None:
    """In the tables of the command and the messages of the library; less than a cent is not 0."""
    assert money(amount, currency) == text
