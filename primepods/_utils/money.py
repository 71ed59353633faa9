"""Amounts of money as text."""

from __future__ import annotations

from typing import Final

_SYMBOLS: Final = {"USD": "$", "EUR": "\N{EURO SIGN}"}
_CENT: Final = 0.01


def money(amount: float | None, currency: str | None = None) -> str:
    """Format an amount, such as ``$2.50``; a nonzero amount below a cent gets four decimals, perhaps all 0.

    Args:
        amount: The amount; ``None`` becomes an empty text.
        currency: The currency's code; ``None`` for ``USD``.
    """
    if amount is None:
        return ""
    sign = "-" if amount < 0 else ""
    symbol = _SYMBOLS.get(currency or "USD", f"{currency} ")
    decimals = 4 if 0 < abs(amount) < _CENT else 2
    return f"{sign}{symbol}{abs(amount):,.{decimals}f}"
