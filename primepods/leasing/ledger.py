"""The folder with the files of leases."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import attrs

from .._utils.unique_names import unique_name
from ..config import Settings
from ..errors import ConfigError
from ._lease_file import DRAFT, SUFFIX, LeaseFile
from ._record import LeaseRecord, new_record, read_record

_MAX_DRAFT_AGE: Final = 24 * 3600.0
"""Seconds; writing a draft takes milliseconds, so the process of an older draft has died."""


@attrs.frozen
class Ledger:
    """Content of the folder of leases.

    Attributes:
        records: The record of each file, including drafts whose process died before it renamed them.
        unreadable: The reason for each file that cannot be read; such a file may be the record of a pod.
    """

    records: dict[Path, LeaseRecord]
    unreadable: dict[Path, str]


def read_ledger(folder: Path) -> Ledger:
    """Read all files of leases.

    Raises:
        ConfigError: The folder cannot be read.
    """
    ledger = Ledger({}, {})
    for path in _files(folder):
        try:
            ledger.records[path] = read_record(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            if path.suffix == SUFFIX:
                ledger.unreadable[path] = str(exc)
    return ledger


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in {SUFFIX, DRAFT})
    except FileNotFoundError:
        return []
    except OSError as exc:
        msg = (
            f"The folder {folder} with the files of leases cannot be read ({exc.strerror}). Make it "
            "readable, or set PRIMEPODS_STATE_DIR to the folder that was used."
        )
        raise ConfigError(msg) from None


def remove_broken_drafts(folder: Path, now: float) -> None:
    """Remove unreadable drafts that are a day old: their processes were killed while writing."""
    for draft in folder.glob(f"*{DRAFT}"):
        with contextlib.suppress(OSError):
            if now - draft.stat().st_mtime > _MAX_DRAFT_AGE and not _is_record(draft):
                draft.unlink()


def _is_record(path: Path) -> bool:
    try:
        read_record(path)
    except ValueError:
        return False
    return True


def probe_folder(folder: Path, settings: Settings) -> bool:
    """Write a lease file, and remove it; return whether locks work in the folder.

    Raises:
        ConfigError: The folder cannot be written.
    """
    folder_existed = folder.exists()
    record = new_record(unique_name("trial", settings.clock.random), settings)
    file = LeaseFile.create(folder, record)
    try:
        is_locked_while_open = LeaseFile.claim(file.path) is None
        file.close()
        claimed_after_close = LeaseFile.claim(file.path)
        if claimed_after_close is not None:
            claimed_after_close.close()
    finally:
        file.remove()
    if not folder_existed:
        with contextlib.suppress(OSError):  # not empty: a lease has begun meanwhile
            folder.rmdir()
    return is_locked_while_open and claimed_after_close is not None
