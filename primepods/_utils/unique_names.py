"""Unique names of pods and disks; the random suffix identifies the order.

``train`` becomes ``train-k3v9q2mxga``: the suffix has eight random characters (40 bits) and two check
characters (10 bits). An expiry, after which the pod is no longer needed, can follow the suffix, and changes
the check characters: ``train-k3v9q2mx9b-x0a1b2``. Suffix and expiry are lower case, and a long prefix is
shortened, so that servers have no reason to change the name.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable
from typing import Final

_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, which has no letters that look like digits."""
_RANDOM_LENGTH: Final = 8
_CHECK_LENGTH: Final = 2
_EXPIRY_LENGTH: Final = 5
_EXPIRY_EPOCH: Final = 1_735_689_600
"""2025-01-01. An expiry is a number of minutes since then; five characters suffice until 2088."""
_MAX_LENGTH: Final = 63
_MIN_SHORTENED_LENGTH: Final = 8
"""Min letters and digits of a name that a server may have shortened (imagined)."""
_UNIQUE: Final = re.compile(
    rf"(?:.*-)?(?P<random>[{_LETTERS}]{{{_RANDOM_LENGTH}}})(?P<check>[{_LETTERS}]{{{_CHECK_LENGTH}}})"
    rf"(?:-x(?P<expiry>[{_LETTERS}]{{{_EXPIRY_LENGTH}}}))?",
    re.DOTALL,
)
_RANDOM: Final = random.SystemRandom()


def _match_unique_name(name: str) -> re.Match[str] | None:
    """Match a unique name with valid check characters."""
    found = _UNIQUE.fullmatch(name)
    if found is None or found["check"] != _check_letters(found["random"], found["expiry"] or ""):
        return None
    return found


class UniqueName(str):
    """Name that was generated for one order of a pod or disk, so that no other order has it."""

    __slots__ = ()

    @property
    def without_expiry(self) -> str:
        """The name without its expiry: the part that identifies the order."""
        found = _match_unique_name(self)
        return self if found is None else self[: found.end("check")]


def unique_name(
    prefix: str, rand: Callable[[], float] = _RANDOM.random, expires_at: float | None = None
) -> UniqueName:
    """Return a new unique name.

    Args:
        prefix: First part of the name, which is shortened if the name would be longer than 63 characters.
        rand: Source of random numbers from 0 (inclusive) to 1 (exclusive).
        expires_at: Time after which the pod is no longer needed, in seconds since the epoch; rounded up to
            minutes.
    """
    expiry = ""
    if expires_at is not None:
        minutes = math.ceil((expires_at - _EXPIRY_EPOCH) / 60)
        expiry = _encode(min(max(minutes, 0), 32**_EXPIRY_LENGTH - 1), _EXPIRY_LENGTH)
    letters = "".join(_LETTERS[int(rand() * len(_LETTERS))] for _ in range(_RANDOM_LENGTH))
    end = f"-{letters}{_check_letters(letters, expiry)}"
    if expiry:
        end += f"-x{expiry}"
    return UniqueName(prefix[: _MAX_LENGTH - len(end)].rstrip("-") + end)


def ensured_name(name: str, expires_at: float) -> str:
    """Return the name, with an expiry, under which ``pods.ensure`` orders a pod.

    Its eight "random" characters are computed from ``name``. Several orders can share them, so the result
    is not a :class:`UniqueName`.
    """
    letters = hashlib.blake2b(name.encode(), digest_size=_RANDOM_LENGTH, person=b"primepods ensure").digest()
    fractions = iter(letter / 256 for letter in letters)
    return str(unique_name(name, lambda: next(fractions), expires_at))


def is_ensured_name(name: str, theirs: str | None) -> bool:
    """Return whether ``theirs`` starts with an ``ensured_name`` of ``name`` up to its random characters.

    Case and punctuation are ignored. For ``pods.ensure``: an earlier order has another expiry, and so other
    check characters.
    """
    needed = _plain(ensured_name(name, _EXPIRY_EPOCH))[: -(_CHECK_LENGTH + len("x") + _EXPIRY_LENGTH)]
    return theirs is not None and _plain(theirs).startswith(needed)


def is_unique(name: str) -> bool:
    """Return whether a name has the form of a :func:`unique_name`.

    For lease files and the exporter: they read a name without knowing how it was made.
    """
    return _match_unique_name(name) is not None


def expiry_of(name: str | None) -> float | None:
    """Return the expiry in a name, in seconds since the epoch.

    Return ``None`` unless the name has the form of a :func:`unique_name` with an expiry.
    """
    found = _match_unique_name((name or "").strip().lower())
    if found is None or found["expiry"] is None:
        return None
    minutes = 0
    for letter in found["expiry"]:
        minutes = 32 * minutes + _LETTERS.index(letter)
    return _EXPIRY_EPOCH + 60.0 * minutes


def is_same_name(ours: str, theirs: str | None) -> bool:
    """Return whether ``theirs`` is the name ``ours``, perhaps changed by a server.

    A server (imagined) may change the case and the amount of whitespace. In a unique name, it may also change
    punctuation, and cut off all or part of the expiry. For orders, leases, sweeps and ``pods.ensure``, which
    find their pods by name.
    """
    if theirs is None:
        return False
    if not isinstance(ours, UniqueName):
        return ours.casefold().split() == theirs.casefold().split()
    full, needed, seen = _plain(ours), _plain(ours.without_expiry), _plain(theirs)
    return full.startswith(seen) and seen.startswith(needed)


def may_be_changed_name(ours: str, theirs: str) -> bool:
    """Return whether a server (imagined) may have changed ``ours`` to ``theirs``, or cut it within a word.

    The server may change case and punctuation, and leaves at least eight letters and digits, or all if there
    are fewer. A cut between words or within a number counts as another name: ``training-job-1`` is not
    ``training-job-1-b`` or ``training-job-12``. This is weaker than :func:`is_same_name`: the name may be
    another pod's. For ``pods.ensure``, which then orders nothing, and for an order under a chosen name, whose
    response has the id of a new pod or disk.
    """
    full, seen = _plain(ours), _plain(theirs)
    if len(seen) < min(_MIN_SHORTENED_LENGTH, len(full)) or not full.startswith(seen):
        return False
    if seen == full:
        return True
    ours = ours.casefold()
    places = [place for place, letter in enumerate(ours) if letter.isalnum()]
    last, following = places[len(seen) - 1], places[len(seen)]
    return following == last + 1 and not (ours[last] + ours[following]).isdigit()


def _plain(name: str) -> str:
    """Return the letters and digits of a name, ignoring case."""
    return "".join(filter(str.isalnum, name.casefold()))


def _check_letters(letters: str, expiry: str) -> str:
    digest = hashlib.blake2b(f"{letters}{expiry}".encode(), digest_size=4, person=b"primepods").digest()
    return _encode(int.from_bytes(digest) % 32**_CHECK_LENGTH, _CHECK_LENGTH)


def _encode(number: int, length: int) -> str:
    return "".join(_LETTERS[number // 32**place % 32] for place in reversed(range(length)))
