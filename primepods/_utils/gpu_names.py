"""Match GPU names as people write them, such as ``RTX 4090`` or ``A100 80GB``, with the API's names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

CPU_NODE: Final = "CPU_NODE"
"""The API's GPU type of a machine without GPUs."""
_MEMORY: Final = re.compile(r"_\d+GB$")
_VENDOR: Final = re.compile(r"^(NVIDIA|GEFORCE)+(?=[^*?])")
_LOOKALIKES: Final = str.maketrans("OIL", "011")


def gpu_matches(wanted: str, gpu: str) -> bool:
    """Return whether a GPU's name matches ``wanted``.

    Case and blanks do not count; punctuation counts only in a pattern. A pattern that begins with a wildcard
    does not match ``CPU_NODE``.

    Args:
        wanted: A name with or without vendor and memory, or a pattern such as ``H*``.
        gpu: The API's name, such as ``H100_80GB``.
    """
    pattern = "".join(wanted.upper().split())
    if gpu == CPU_NODE and pattern.startswith(("*", "?", "[")):
        # Any GPU is wanted, and this machine has none.
        return False
    if any(fnmatchcase(gpu.upper(), form) for form in (pattern, _VENDOR.sub("", pattern))):
        return True
    if set(pattern) & set("*?["):
        # Without its punctuation, `L4?` would be the L4.
        return False
    plain = _VENDOR.sub("", _plain(wanted))
    # People write the number of an RTX card alone, such as `4090`.
    return plain in {form.removeprefix(prefix) for form in _forms(gpu) for prefix in ("", "RTX")}


def similar_gpus(wanted: str, gpus: Iterable[str]) -> list[str]:
    """Return up to three of ``gpus`` that are similar to a mistyped name, the most similar first."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped name

    forms = {form.translate(_LOOKALIKES): gpu for gpu in gpus for form in _forms(gpu)}
    # Six, since a GPU has up to two forms.
    found = get_close_matches(_plain(wanted).translate(_LOOKALIKES), forms, n=6)
    return list(dict.fromkeys(forms[form] for form in found))[:3]


def _forms(gpu: str) -> set[str]:
    """Return a GPU's name with its memory and without it, in letters and digits only."""
    return {_plain(gpu), _plain(_MEMORY.sub("", gpu))}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).upper()
