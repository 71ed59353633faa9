"""`primepods get`: all that is known of some pods."""

from __future__ import annotations

import asyncio

import primepods

from ._command import Api, api_command
from ._details import print_details
from ._errors import complain, failed
from ._filters import PodIds, read_ids
from ._output import Output, OutputOption, write_row, write_rows
from ._pod_table import print_pods


@api_command
def command(api: Api, pod_ids: PodIds, *, output: OutputOption = Output.TABLE) -> None:
    """Show all that is known of one pod, or of several.

    One id gives one JSON object, several (or -) an array.
    """
    ids = read_ids(pod_ids)
    pods, errors = asyncio.run(_get(api, ids))
    _print(pods, output, single=len(pod_ids) == 1 and pod_ids != ["-"])
    for pod_id, error in errors.items():
        complain(api.command, f"{pod_id}: {error}")
    failed(errors.values())


async def _get(api: Api, ids: list[str]) -> tuple[list[primepods.Pod], dict[str, primepods.PrimePodsError]]:
    """Return the pods in the order asked, and the errors of those that could not be read."""
    async with api.async_client() as client:
        answers = await asyncio.gather(*map(client.pods.get, ids), return_exceptions=True)
    pods: list[primepods.Pod] = []
    errors: dict[str, primepods.PrimePodsError] = {}
    for pod_id, answer in zip(ids, answers, strict=True):
        if isinstance(answer, primepods.Pod):
            pods.append(answer)
        elif isinstance(answer, primepods.PrimePodsError):
            errors[pod_id] = answer
        else:
            raise answer
    return pods, errors


def _print(pods: list[primepods.Pod], output: Output, *, single: bool) -> None:
    if single and output is not Output.CSV:
        for pod in pods:
            print_details(pod.to_dict()) if output is Output.TABLE else write_row(pod.to_dict(), output)
    elif output is not Output.TABLE:
        write_rows([pod.to_dict() for pod in pods], output, fields=primepods.Pod.summary_fields())
    elif pods:
        print_pods(pods)
