"""Settings from arguments, and from the files of `prime`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from .._utils.strict_json import is_object
from .._utils.text import quote
from ..errors import ConfigError

DEFAULT_BASE_URL: Final = "https://api.primeintellect.ai"

BUILT_IN_CONTEXT: Final = "production"
"""Name of the built-in context, which selects the vendor's host; it has no file of its own."""

_CONTEXT_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@attrs.frozen(eq=False, repr=False)
class Found:
    """A setting's value, which may be the key, and its source; ``file`` is set only for a key from a file."""

    value: str = attrs.field(repr=False)
    source: str
    file: File | None = None


@attrs.frozen(eq=False, repr=False)
class File:
    """A file of `prime`.

    Attributes:
        path: Its path.
        fields: Its JSON object.
        vendor_url: The vendor's base URL, if requests use it instead of the file's ``base_url``.
    """

    path: Path
    fields: Mapping[str, Any] = attrs.field(repr=False)
    vendor_url: Found | None = None

    def text(self, name: str) -> str | None:
        """Return the text of a field, or ``None`` if it is missing, null or blank.

        Raises:
            ConfigError: The field is not a string.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            return value.strip() or None
        kind = type(value).__name__
        del value  # it may hold the key, and tracebacks can show the variables of a frame
        raise ConfigError(f"{self.path}: {name} must be a string, not {kind}. Correct the file.")

    @property
    def base_url(self) -> Found:
        """The base URL for requests."""
        return self.vendor_url or self.key_base_url

    @property
    def key_base_url(self) -> Found:
        """The base URL to which the file's key belongs: the one in the file, or the vendor's."""
        if text := self.text("base_url"):
            return Found(text, f"field base_url of {self.path}")
        return Found(DEFAULT_BASE_URL, "the default")


def read_files(context: Found | None) -> list[File]:
    """Return the files of `prime` that apply, the most specific first.

    Raises:
        ConfigError: A file cannot be used, or the context is not saved or has an invalid name.
    """
    try:
        folder = Path.home() / ".prime"
    except RuntimeError:  # no home directory, so no files
        return []
    config = _read_file(folder / "config.json")
    files = [] if config is None else [config]
    if context is None:
        return files
    if context.value.lower() == BUILT_IN_CONTEXT:
        # Use the vendor's host, no team, and the key of the file. The caller checks the key's host.
        if config is None:
            return []
        fields = {"api_key": config.fields.get("api_key"), "base_url": config.key_base_url.value}
        return [File(config.path, fields, vendor_url=Found(DEFAULT_BASE_URL, context.source))]
    subject = f"The context {quote(context.value)} ({context.source})"
    if not _CONTEXT_NAME.fullmatch(context.value):
        raise ConfigError(
            f"{subject} is not a valid name: names have up to 100 letters, digits, hyphens and underscores. "
            "Correct it."
        )
    path = folder / "environments" / f"{context.value}.json"
    chosen = _read_file(path)
    if chosen is None:
        raise ConfigError(
            f"{subject} is not saved here: {path} does not exist. Correct the name of the context, or do not "
            "set it."
        )
    return [chosen, *files]


def _read_file(path: Path) -> File | None:
    try:
        fields = json.loads(path.read_bytes())
        if is_object(fields):
            return File(path, fields)
        del fields
        reason = "it is not a JSON object"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        reason = exc.strerror or "it cannot be read"
    except (ValueError, RecursionError):
        reason = "it is not JSON"
    # Raise outside of `except`: otherwise the error's context would keep the file's content, with the key.
    raise ConfigError(
        f"{path} cannot be used: {reason}. Repair or remove it, or give both api_key and base_url."
    )


def saved_contexts() -> tuple[str, ...]:
    """Return the names of the contexts saved by `prime`, and of the built-in one."""
    try:
        names = [path.stem for path in (Path.home() / ".prime" / "environments").glob("*.json")]
    except (OSError, RuntimeError):
        names = []
    valid = {name for name in names if _CONTEXT_NAME.fullmatch(name) and name.lower() != BUILT_IN_CONTEXT}
    return (BUILT_IN_CONTEXT, *sorted(valid))


def from_argument(name: str, value: str | None) -> Found | None:
    """Return the value of an argument with its source; ``None`` for ``None``.

    Raises:
        TypeError: The value is not a string.
        ConfigError: The value is blank.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        # Do not show a key, not even one that was passed as bytes.
        got = type(value).__name__ if name == "api_key" else quote(value)
        raise TypeError(f"{name} must be a string, got {got}")
    if not value.strip():
        raise ConfigError(
            f"The argument {name} is empty. Pass a value, or leave it out to use the environment and files."
        )
    return Found(value.strip(), f"argument {name}")
