"""`primepods forward`: forward ports of a pod to this machine."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any

import typer

import primepods

from ._command import Api, api_command
from ._handles import PodHandle, resolve_handle
from ._remote import LoginOptions, open_page, run_until_interrupted
from ._table import print_info, write

_PORT = re.compile(r"(\d{1,5})(?::(\d{1,5}))?")


def _parse_port(text: str) -> tuple[int, int, str]:
    """Return the port on the pod, the local port, and the host on the pod's side.

    Raises:
        typer.BadParameter: The text is not PORT or PORT:LOCAL.
    """
    found = _PORT.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not PORT or PORT:LOCAL, such as 8888:9000")
    return int(found[1]), int(found[2] or found[1]), "localhost"


Open = Annotated[bool, typer.Option("--open", help="Open the address in the browser.")]


@api_command
def command(
    api: Api,
    pod: PodHandle,
    ports: Annotated[
        list[Any],
        typer.Argument(
            parser=_parse_port,
            metavar="PORT[:LOCAL]...",
            help="A port on the pod, and the port of this machine, by default the same; 0 for a free one.",
            show_default=False,
        ),
    ],
    *,
    open_browser: Open = False,
    login: LoginOptions,
) -> None:
    """Forward ports of a pod to this machine, until Ctrl-C.

    Prints the address of each port, which only programs on this machine can reach. Connects again, with the
    same ports, if the connection is lost.

    Examples:
      primepods forward train 6006 --open           # TensorBoard
      primepods forward train 8000:9000 5432:0
    """
    import asyncio

    from primepods.remote import forward_ports

    with api.client() as client:
        pod_id = resolve_handle(client, pod, team=api.team)

    async def work(client: primepods.AsyncClient) -> None:
        remote = client.pods.remote(pod_id, node=login.node, **login.arguments())
        with primepods.exit_on_sigterm():
            async with forward_ports(remote, ports) as forward:
                write("".join(f"http://127.0.0.1:{port}\n" for port in forward.local_ports))
                print_info("Ctrl-C ends the connection.")
                if open_browser:
                    open_page(forward.url)
                # Ctrl-C is the normal end.
                with suppress(asyncio.CancelledError):
                    await forward.wait()

    run_until_interrupted(api, work)
