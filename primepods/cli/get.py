"""`primepods get`: all fields of some pods."""

from __future__ import annotations

import primepods

from ._command import Api, api_command
from ._errors import print_errors_and_exit_if_any
from ._handles import PodHandles, is_single, read_handles, resolve_handles
from ._output import PrintOptions, print_model
from ._pod_table import PODS


@api_command
def command(
    api: Api,
    pods: PodHandles,
    *,
    print_options: PrintOptions,
) -> None:
    """Show all fields of one pod, or of several.

    As JSON, one pod is an object; several pods, or pods from stdin (-), are an array.
    """
    PODS.check(print_options)
    with api.client() as client:
        ids = resolve_handles(client, read_handles(pods), team=api.team)
    found, errors = api.run(lambda client: _get(client, ids))
    if is_single(pods) and found and not print_options.selects_fields:
        print_model(found[0], print_options.output)
    else:
        PODS.print(found, print_options)
    print_errors_and_exit_if_any(api.command, errors)


async def _get(
    client: primepods.AsyncClient, ids: list[str]
) -> tuple[list[primepods.Pod], dict[str, primepods.PrimePodsError]]:
    """Return the pods in the order of their ids, and the errors of the others."""
    import asyncio

    results = await asyncio.gather(*map(client.pods.get, ids), return_exceptions=True)
    pods: list[primepods.Pod] = []
    errors: dict[str, primepods.PrimePodsError] = {}
    for pod_id, result in zip(ids, results, strict=True):
        if isinstance(result, primepods.PrimePodsError):
            errors[pod_id] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            pods.append(result)
    return pods, errors
