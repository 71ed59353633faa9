"""Search for job variables without effect: Prefect drops values that a pool's template does not use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import attrs
from prefect.utilities.templating import PlaceholderType, find_placeholders
from prefect.workers.base import BaseVariables

from .. import PodSpec

_PREFECT_VARIABLES: Final = frozenset(BaseVariables.model_fields)
"""Prefect's own variables, which any pool accepts."""
_SPEC_FIELDS: Final = frozenset(field.name for field in attrs.fields(PodSpec))
_MIN_SIMILARITY: Final = 0.5
"""Min similarity, from 0 to 1, of a known name that is suggested for an unknown one."""


def find_problems(
    base_job_template: Mapping[str, Any], values: Mapping[str, Any], fields: Collection[str]
) -> list[str]:
    """Return a sentence for each variable, default and template field that would have no effect.

    ``values`` are the job variables of the deployment and the flow run; ``fields`` are those of the job
    configuration.
    """
    template: dict[str, Any] = base_job_template["job_configuration"]
    used = {
        _variable_name(placeholder.name)
        for placeholder in find_placeholders(template)
        if placeholder.type is PlaceholderType.STANDARD
    }
    variables: Mapping[str, Any] = base_job_template["variables"].get("properties", {})
    return [
        *_value_problems(values, used, fields),
        *(
            f"The work pool's base job template has a default of {name!r}, which its `job_configuration` "
            f"does not use{_hint(name, used)}"
            for name, schema in variables.items()
            if schema.get("default") is not None and name not in used | _PREFECT_VARIABLES
        ),
        *(
            f"The work pool's base job template sets {name!r} in `job_configuration`, which has no such field"
            f"{_hint(name, fields)}"
            for name in template
            if name not in fields
        ),
    ]


def find_spec_problems(spec: Mapping[str, Any], *, max_price: float | None) -> list[str]:
    """Return a sentence for each field of ``spec`` that is unknown or would have no effect."""
    unknown = [
        f"The job variable `spec` has no field {name!r}{_hint(name, _SPEC_FIELDS)}"
        for name in spec
        if name not in _SPEC_FIELDS
    ]
    dropped = {"name"}
    if "cloud_id" not in spec:
        dropped |= {"gpu_type", "gpu_count", "max_price"}
    elif max_price is not None:
        dropped.add("max_price")
    return unknown + [
        f"The field {name!r} of `spec` would have no effect: set the job variable {name!r} instead."
        for name in sorted(dropped)
        if spec.get(name) is not None
    ]


def _value_problems(
    values: Mapping[str, Any], used: Collection[str], fields: Collection[str]
) -> Iterator[str]:
    for name in dict.fromkeys(map(_variable_name, values)):
        if name in used or name in _PREFECT_VARIABLES:
            continue
        if name in fields:
            yield (
                f"The job variable {name!r} would have no effect: the work pool's base job template does not "
                f"use it. Remove it, or have the template use {{{{ {name} }}}}."
            )
        elif name in _SPEC_FIELDS:
            place = f"{{'spec': {{{name!r}: …}}}}"
            yield f"There is no job variable {name!r}: it is a field of `spec`, as in {place}."
        else:
            yield f"There is no job variable {name!r}{_hint(name, used)}"


def _variable_name(name: str) -> str:
    """Return the first part of a dotted name: Prefect reads ``env.TOKEN`` as ``TOKEN`` in ``env``."""
    return name.partition(".")[0]


def _hint(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence about a name: the most similar known name, or all known names."""
    similar = get_close_matches(name, sorted(known), n=1, cutoff=_MIN_SIMILARITY)
    return f": did you mean {similar[0]!r}?" if similar else f"; known: {', '.join(sorted(known))}."
