"""Options, sizes and progress bars of copies to and from pods."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .errors import CommandError, ExitCode, print_error
from .options import login_option, option

if TYPE_CHECKING:
    from primepods.remote import Exclusion, UploadSize

_LARGE_UPLOAD = 100_000_000
# Except on Windows, `C:/data` is a path on the pod C.
_DRIVE = re.compile(r"[A-Za-z]:" if os.name == "nt" else r"[A-Za-z]:(?=\\)")

Exclude = Annotated[
    list[str] | None,
    option(
        "Do not upload files and folders that match this, such as .git or '*.pyc'; may be repeated.",
        "PATTERN",
    ),
]
ExcludeFrom = Annotated[
    list[Path] | None,
    login_option("File, such as .gitignore, with patterns of files not to upload; may be repeated.", "FILE"),
]


def parse_exclusion(patterns: Iterable[str] | None, files: Iterable[Path] | None) -> Exclusion:
    """Return the exclusion of ``--exclude`` and ``--exclude-from``.

    Raises:
        CommandError: A pattern is invalid, or a file cannot be read.
    """
    from primepods.remote import Exclusion

    try:
        if not files:
            return Exclusion(patterns or ())
        from .gitignore import GitExclusion

        return GitExclusion(patterns or (), files)
    except OSError as exc:
        raise CommandError(f"--exclude-from {exc.filename}: {exc.strerror}", ExitCode.USAGE) from None
    except ValueError as exc:
        raise CommandError(str(exc), ExitCode.USAGE) from None


def split_at_colon(text: str) -> tuple[str, str, str]:
    r"""Split a text at its first colon that does not end the drive of a Windows path such as ``C:\data``."""
    drive = _DRIVE.match(text)
    start = 0 if drive is None else drive.end()
    head, colon, tail = text[start:].partition(":")
    return text[:start] + head, colon, tail


def parse_upload(text: str) -> tuple[Path, str]:
    """Parse ``LOCAL[:REMOTE]``, and return the local path and the target on the pod.

    By default, the target has the name of the local path.

    Raises:
        CommandError: No path is given.
    """
    local, _, remote = split_at_colon(text)
    path = Path(local)
    if not local:
        problem = f"--upload {text!r} has no local path: write it like --upload .:work"
        raise CommandError(problem, ExitCode.USAGE)
    # `abspath` replaces `.` by the folder's name, and keeps the name of a link. `/` has no name.
    return path, remote or Path(os.path.abspath(path)).name or "work"  # noqa: PTH100 - `resolve` follows links


def parse_download(text: str) -> tuple[str, str]:
    """Parse ``REMOTE[:LOCAL]``, and return the path on the pod and the local target.

    By default, the target has the name of the path on the pod.

    Raises:
        CommandError: No path is given, or a pattern, which no copy expands.
    """
    remote, _, local = text.partition(":")
    if "*" in remote or "?" in remote:
        problem = f"--download {text!r}: patterns are not expanded. Name a file or a folder, such as out/"
        raise CommandError(problem, ExitCode.USAGE)
    if not remote:
        raise CommandError(f"--download {text!r} has no path: write it like --download out/", ExitCode.USAGE)
    local = local or posixpath.basename(remote.rstrip("/")) or "."
    return remote, local


def measure_and_warn(command: str, local: str | Path, exclusion: Exclusion) -> UploadSize:
    """Return the size of an upload; print a warning if it is large."""
    from primepods.remote import measure_upload

    size = measure_upload(local, exclusion)
    if size.bytes >= _LARGE_UPLOAD:
        print_error(
            command,
            f"{local} has {describe(size)}: exclude files that the pod does not need, for example with "
            "--exclude .git or --exclude-from .gitignore",
        )
    return size


def describe(size: UploadSize) -> str:
    """Return the number of files and their size, for a message."""
    from primepods.runs import short_size

    return f"{size.files:,} {'file' if size.files == 1 else 'files'}, {short_size(size.bytes)}"


@contextmanager
def progress(
    what: str, total: int | None = None, *, is_transient: bool = False
) -> Generator[Callable[[int], Any] | None]:
    """Show the progress of a copy on stderr, and yield the callback for it.

    If stderr cannot show a bar, yield ``None``.

    Args:
        what: Label of the bar, such as ``copied`` or ``uploaded data``.
        total: Total number of bytes, if known.
        is_transient: Whether the bar disappears at the end.
    """
    from rich.progress import DownloadColumn

    from .screen import Screen

    screen = Screen(err=True)
    if not screen.is_live:
        yield None
        return
    with screen.bar(DownloadColumn(), is_transient=is_transient) as bar:
        task = bar.add_task(what, total=total, note="")

        def show(sent: int, whole: int | None = total) -> None:
            bar.update(task, completed=sent, total=whole)

        yield show
        # Without a known size, the bar would end as "12/?".
        bar.update(task, total=total or bar.tasks[task].completed)
