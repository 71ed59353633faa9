"""Any text and any JSON value at all, for tests to throw at what reads answers and arguments."""

from typing import Any

from hypothesis import strategies as st

ANY_TEXT = st.text() | st.text(st.characters())
"""The second arm has halves of surrogate pairs, which Python can hold and UTF-8 cannot."""


def _nested(floats: st.SearchStrategy[float], text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | floats | text
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
    )


VALUES = _nested(st.floats(allow_nan=False, allow_infinity=False), st.text())
"""What JSON can say."""
VALUES_BEYOND_JSON = _nested(st.floats(), ANY_TEXT)
"""The same and what it cannot say."""
