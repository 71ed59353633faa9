"""Convert an operator's arguments to specs, and rent a pod of the first spec that is available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from airflow.providers.common.compat.sdk import AirflowFailException

from .. import Client, Pod, PodSpec, PriceTooHighError, SoldOutError


def read_spec(fields: object) -> PodSpec:
    """Convert an operator's ``spec`` argument.

    Raises:
        AirflowFailException: It is not a mapping, or a field is missing, unknown or invalid.
    """
    if not isinstance(fields, Mapping):
        raise AirflowFailException(
            f"spec must be a mapping with the fields of a PodSpec, not {type(fields).__name__}. If it is the "
            "result of a task, check that the task has run and returned a mapping; if it is a template, set "
            "`render_template_as_native_obj=True` in the DAG."
        )
    try:
        return PodSpec(**fields)
    except ValueError as exc:
        problem = str(exc)
    except TypeError as exc:
        known = {field.name: field for field in attrs.fields(PodSpec)}
        required = [name for name, field in known.items() if field.default is attrs.NOTHING]
        problems = [f"the field {name!r} is missing" for name in required if name not in fields]
        problems += [f"there is no field {name!r}" for name in fields if name not in known]
        problem = ", ".join(problems) or str(exc)
    raise AirflowFailException(f"The pod cannot be ordered, because of its spec: {problem}.")


def create_first(client: Client, specs: Sequence[PodSpec], max_hours: float | None, log: Any) -> Pod:
    """Rent a pod of the first spec that is neither sold out nor too expensive.

    Raises:
        SoldOutError: The last spec is sold out.
        PriceTooHighError: The last spec is too expensive now.
    """
    *others, last = specs
    for spec in others:
        try:
            return client.pods.create(spec, max_hours=max_hours)
        except (SoldOutError, PriceTooHighError) as exc:
            log.info("%s Trying the next offer", exc)
    return client.pods.create(last, max_hours=max_hours)
