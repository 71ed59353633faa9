"""`primepods get`: all that is known of some pods."""

from __future__ import annotations

import primepods

from ._command import Api, api_command
from ._errors import fail_for
from ._handles import PodHandles, is_single, read_handles, resolve_handles
from ._output import Form, print_model
from ._pod_table import PODS


@api_command
def command(
    api: Api,
    pods: PodHandles,
    *,
    form: Form,
) -> None:
    """Show all that is known of one pod, or of several.

    As JSON, one id gives one object, several (or -) an array.
    """
    PODS.chosen(form)
    with api.client() as client:
        ids = resolve_handles(client, read_handles(pods), team=api.team)
    found, errors = api.run(lambda client: _get(client, ids))
    if is_single(pods) and found and form.is_plain:
        print_model(found[0], form.output)
    else:
        PODS.print(found, form)
    fail_for(api.command, errors)


async def _get(
    client: primepods.AsyncClient, ids: list[str]
) -> tuple[list[primepods.Pod], dict[str, primepods.PrimePodsError]]:
    """Return the pods in the order asked, and the errors of those that could not be read."""
    import asyncio

    answers = await asyncio.gather(*map(client.pods.get, ids), return_exceptions=True)
    pods: list[primepods.Pod] = []
    errors: dict[str, primepods.PrimePodsError] = {}
    for pod_id, answer in zip(ids, answers, strict=True):
        if isinstance(answer, primepods.PrimePodsError):
            errors[pod_id] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            pods.append(answer)
    return pods, errors
