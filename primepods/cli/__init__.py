"""The command `primepods`; needs the extra `cli` (typer and rich)."""

import sys

EXTRA = {"click", "rich", "typer"}


def main() -> None:
    """Run the command with the arguments of the process; the console script."""
    try:
        from .app import app  # noqa: PLC0415 - the extra may not be installed
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".", maxsplit=1)[0] not in EXTRA:
            raise
        sys.exit(
            f"primepods: the command needs {error.name}, which is not installed. Install the extra with it:\n"
            "  pip install 'primepods[cli]'"
        )
    app(prog_name="primepods")
