"""The one output of a cell that is redrawn."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

_NEEDED = "primepods.notebook needs IPython. Install the extra with it: pip install 'primepods[notebook]'"


class Output(Protocol):
    """Where something is shown."""

    def update(self, bundle: dict[str, str], *, raw: bool) -> object:
        """Show something else in its place."""


def show(bundle: dict[str, str]) -> Output:
    """Show something, once for each MIME type.

    Returns:
        The place where it is.

    Raises:
        ModuleNotFoundError: The extra is not installed.
    """
    try:
        # By name, since those who check types may not have it.
        ipython: Any = importlib.import_module("IPython")
        display: Any = importlib.import_module("IPython.display")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_NEEDED, name=error.name) from None
    if ipython.get_ipython() is None:
        output = _Lines()
        output.update(bundle, raw=True)
        return output
    handle: Output = display.display(bundle, raw=True, display_id=True)
    return handle


class _Lines:
    """A line for each change: for a notebook's code that is run as a script."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:  # noqa: ARG002 - as IPython's
        line = bundle["text/plain"]
        if line != self._last:
            self._last = line
            print(line, flush=True)  # noqa: T201 - what there is instead of a cell
