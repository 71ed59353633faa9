"""The command `primepods`; needs the extra `cli` (typer and rich)."""

import io
import sys
from contextlib import suppress

_EXTRA_PACKAGES = {"click", "rich", "typer"}


def main() -> None:
    """Run the command; this is the entry point of the console script."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before Python started
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            # Replace characters and bytes outside the stream's encoding, instead of failing.
            stream.reconfigure(errors="replace")
    try:
        from .app import app

        app(prog_name="primepods")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".", maxsplit=1)[0] not in _EXTRA_PACKAGES:
            raise
        from primepods._utils.text import install_hint

        sys.exit(f"primepods: the command needs {error.name}, which is not installed. {install_hint('cli')}")
    except KeyboardInterrupt:
        sys.exit(130)  # interrupted before or after a command
    finally:
        # The interpreter flushes open streams at exit, and a failure would change the exit code.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # the disk is full, or the stream is already closed
                with suppress(OSError):
                    stream.close()
