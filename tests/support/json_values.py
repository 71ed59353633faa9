"""Any JSON value at all, for tests to throw at what reads answers."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def _nested(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | floats | st.text()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )


VALUES = _nested(st.floats(allow_nan=False, allow_infinity=False))
"""What JSON can say, though half a surrogate pair may be in its text."""
VALUES_AND_INFINITIES = _nested(st.floats())
"""The same and what it cannot say."""
