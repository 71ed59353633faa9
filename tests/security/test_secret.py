"""A string that does not show itself, and is a string for all that needs it."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods._utils.secret import Secret

KEY = Secret("pit_0123456789")


def test_a_secret_is_shown_redacted() -> None:
    """By itself, in containers, in part, with any printer that asks for a `repr`."""
    for shown in (repr(KEY), f"{KEY!r}", repr([KEY]), repr({"key": KEY}), repr(KEY[:8]), repr(KEY[0])):
        assert "redacted" in shown
        assert "pit" not in shown


def test_a_secret_is_a_string_where_it_is_used() -> None:
    """Equal, hashed and joined as its text."""
    assert KEY == "pit_0123456789"
    assert hash(KEY) == hash("pit_0123456789")
    assert f"Bearer {KEY}" == "Bearer pit_0123456789"
    assert type(str(KEY)) is str


def test_a_secret_does_not_travel() -> None:
    """What is pickled or copied is empty, at any protocol."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(KEY, protocol)
        assert b"pit_" not in data
        assert pickle.loads(data) == ""
    assert isinstance(copy.deepcopy(KEY), Secret)


@given(st.text(), st.text())
def test_scrubbed_text_does_not_hold_the_secret(before: str, after: str) -> None:
    """Wherever it stood, and as often; all else stays."""
    text = f"{before}{KEY}{after}{KEY}"
    scrubbed = KEY.scrub(text)
    assert str(KEY) not in scrubbed
    assert scrubbed == f"{before}[redacted]{after}[redacted]"


@pytest.mark.parametrize(
    "echo",
    [
        *("pit/a+b=c&d", "PIT/A+B=C&D", "Pit/a+B=c&d"),
        *("pit%2Fa%2Bb%3Dc%26d", "pit%2fa%2bb%3dc%26d", "PIT%2fA%2BB%3DC%26D"),
        *("%70it/a%2bb=c&d", "pit/a+b%3Dc&d"),
    ],
)
def test_another_spelling_of_a_secret_is_found(echo: str) -> None:
    """As in a `Location` or a log line that repeats a URL, and where a server changes the case."""
    for start in ("", "%41"):  # with an escape, too, that is part of the secret
        assert Secret(f"{start}pit/a+b=c&d").scrub(f"?key={start}{echo}&x") == "?key=[redacted]&x"


def test_a_short_secret_does_not_tear_texts_apart() -> None:
    """A key of one letter is in every word, and one that was pickled is empty."""
    for secret in ("", "a", "e", "7 chars"):
        assert Secret(secret).scrub("the a 7 chars text") == "the a 7 chars text"
