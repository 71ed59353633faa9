"""The command `primepods`; needs the extra `cli` (typer and rich)."""

import io
import sys
from contextlib import suppress

EXTRA = {"click", "rich", "typer"}


def main() -> None:
    """Run the command with the arguments of the process; the console script."""
    _prepare_streams()
    try:
        from .app import app

        app(prog_name="primepods")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".", maxsplit=1)[0] not in EXTRA:
            raise
        sys.exit(
            f"primepods: the command needs {error.name}, which is not installed. Install the extra with it:\n"
            "  pip install 'primepods[cli]'"
        )
    except KeyboardInterrupt:
        # Before a command has begun, or after it has ended; else it says so itself.
        sys.exit(130)
    finally:
        _close_unwritable_streams()


def _prepare_streams() -> None:
    """Let no stream that is closed, or whose encoding lacks a character, end the command."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _close_unwritable_streams() -> None:
    """Keep the exit code: the interpreter flushes the streams once more, and exits with 120 if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # a full disk, or closed already
            with suppress(OSError):
                stream.close()
