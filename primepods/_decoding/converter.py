"""Converter of decoded JSON to models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Any, get_args, get_origin

import attrs
from cattrs import Converter

from .._utils.strict_json import is_object
from ..models.account import Permission
from .compiled import compiled_hook
from .fields import FIELD_HOOKS, as_mapping
from .objects import list_hook, object_hook


def make_converter(*, compiled: bool = True) -> Converter:
    """Return a converter with the hooks of models and of their fields.

    Args:
        compiled: Whether to generate the decoders of attrs classes, which affects only the speed.
    """
    converter = Converter(detailed_validation=True)
    hooks = {**FIELD_HOOKS, Mapping[str, Permission | None]: _as_scope}
    for kind, hook in hooks.items():
        if get_origin(kind) is Mapping:
            converter.register_structure_hook_func(partial(eq, kind), hook)
        else:
            converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(_is_list, list_hook)
    converter.register_structure_hook_factory(attrs.has, compiled_hook if compiled else object_hook)
    return converter


def _as_scope(value: Any, _: Any) -> Mapping[str, Permission | None]:
    """Read the permissions of a key; only ``true`` grants a permission."""
    return {
        name: Permission(read=rights.get("read") is True, write=rights.get("write") is True)
        if is_object(rights)
        else None
        for name, rights in as_mapping(value or {}, None).items()
    }


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
