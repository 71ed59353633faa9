"""`primepods get`: all that is known of some pods."""

from __future__ import annotations

import primepods

from ._command import Api, api_command
from ._errors import fail_for
from ._filters import PodIds, is_single, read_ids
from ._output import Output, OutputOption, print_model, print_models
from ._pod_table import print_pods


@api_command
def command(api: Api, pod_ids: PodIds, *, output: OutputOption = Output.TABLE) -> None:
    """Show all that is known of one pod, or of several.

    As JSON, one id gives one object, several (or -) an array.
    """
    ids = read_ids(pod_ids)
    pods, errors = api.run(lambda client: _get(client, ids))
    if is_single(pod_ids) and pods:
        print_model(pods[0], output)
    else:
        print_models(pods, output, print_pods)
    fail_for(api.command, errors)


async def _get(
    client: primepods.AsyncClient, ids: list[str]
) -> tuple[list[primepods.Pod], dict[str, primepods.PrimePodsError]]:
    """Return the pods in the order asked, and the errors of those that could not be read."""
    import asyncio  # noqa: PLC0415 - `--help` has no use for it

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
