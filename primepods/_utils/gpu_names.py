"""Names of GPUs as people write them: ``H100``, ``RTX 4090`` and ``A100 80GB`` for the API's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

_MEMORY: Final = re.compile(r"_\d+GB$")
_VENDOR: Final = re.compile(r"^(NVIDIA|GEFORCE)+")
_LOOKALIKES: Final = str.maketrans("OIL", "011")


def gpu_matches(wanted: str, gpu: str) -> bool:
    """Tell whether a GPU of the API is the wanted one, whatever the case, blanks and hyphens.

    Args:
        wanted: The API's name, with or without the memory, or a pattern such as ``H*``.
        gpu: The API's name, such as ``H100_80GB``.
    """
    if fnmatchcase(gpu.upper(), wanted.upper()):
        return True
    plain = _VENDOR.sub("", _plain(wanted))
    # A number alone is what people call a GeForce or RTX card.
    return plain in {form.removeprefix(prefix) for form in _forms(gpu) for prefix in ("", "RTX")}


def similar_gpus(wanted: str, gpus: Iterable[str]) -> list[str]:
    """Return up to three GPUs whose names look like a mistyped one, the most similar first."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped name

    forms = {form.translate(_LOOKALIKES): gpu for gpu in gpus for form in _forms(gpu)}
    found = get_close_matches(_plain(wanted).translate(_LOOKALIKES), forms, n=6)
    return list(dict.fromkeys(forms[form] for form in found))[:3]


def _forms(gpu: str) -> set[str]:
    """Return a name with and without the memory, without blanks and the like."""
    return {_plain(gpu), _plain(_MEMORY.sub("", gpu))}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).upper()
