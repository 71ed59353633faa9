"""Cell output that is redrawn in place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from .._utils.text import install_hint

Bundle = dict[str, str]
"""Representations of the content by MIME type."""


def show(bundle: Bundle) -> Callable[[Bundle], object]:
    """Display the content, and return the function that replaces it.

    Outside IPython, print the line of text, and later each line that differs from the previous one.

    Raises:
        ModuleNotFoundError: IPython is not installed.
    """
    try:
        # Import by name, since type checkers may run without IPython.
        ipython: Any = importlib.import_module("IPython")
        display: Any = importlib.import_module("IPython.display")
    except ModuleNotFoundError as error:
        text = f"primepods.notebook needs IPython. {install_hint('notebook')}"
        raise ModuleNotFoundError(text, name=error.name) from None
    if ipython.get_ipython() is not None:
        return partial(display.display(bundle, raw=True, display_id=True).update, raw=True)
    last = ""

    def print_line(bundle: Bundle) -> None:
        nonlocal last
        if (line := bundle["text/plain"]) != last:
            last = line
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    print_line(bundle)
    return print_line
