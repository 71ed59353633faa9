"""Cell output that is redrawn in place."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

_IPYTHON_MISSING = (
    "primepods.notebook needs IPython. Install the extra that contains it: pip install 'primepods[notebook]'"
)


class Output(Protocol):
    """An output that can be updated."""

    def update(self, bundle: dict[str, str], *, raw: bool) -> object:
        """Replace the content."""


def show(bundle: dict[str, str]) -> Output:
    """Display a bundle of representations by MIME type; return the output, to update it later.

    Raises:
        ModuleNotFoundError: The extra is not installed.
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
    """Output that prints a line per change, if notebook code runs as a script."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:  # noqa: ARG002 - signature of IPython's
        line = bundle["text/plain"]
        if line != self._last:
            self._last = line
            print(line, flush=True)  # noqa: T201 - there is no cell
