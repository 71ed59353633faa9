"""Cell output that is redrawn in place."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

_IPYTHON_MISSING = (
    "primepods.notebook needs IPython. Install the extra that contains it: pip install 'primepods[notebook]'"
)


class Output(Protocol):
    def update(self, bundle: dict[str, str], *, raw: bool) -> object:
        """Replace the content with representations by MIME type."""


def show(bundle: dict[str, str]) -> Output:
    """Display representations by MIME type, or a line of text outside IPython; return the output to update.

    Raises:
        ModuleNotFoundError: IPython is not installed.
    """
    try:
        # Import by name, since type checkers may run without IPython.
        ipython: Any = importlib.import_module("IPython")
        display: Any = importlib.import_module("IPython.display")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_IPYTHON_MISSING, name=error.name) from None
    if ipython.get_ipython() is None:
        output = _TextOutput()
        output.update(bundle, raw=True)
        return output
    handle: Output = display.display(bundle, raw=True, display_id=True)
    return handle


class _TextOutput:
    """Output outside IPython, which prints the line of text when it changes."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        del raw
        line = bundle["text/plain"]
        if line != self._last:
            self._last = line
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
