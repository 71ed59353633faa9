"""`primepods forward` and `jupyter`: forward ports of a pod, or its notebook, to this machine."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

import primepods

from .._shared.command import Api, api_command
from .._shared.errors import CommandError
from .._shared.handles import PodHandle, resolve_handle
from .._shared.login_options import LoginOptions, open_page
from .._shared.options import flag
from .._shared.table import print_info, write

_PORT = re.compile(r"(\d{1,5})(?::(\d{1,5}))?")


def _parse_port(text: str) -> tuple[int, int, str]:
    """Return the port on the pod, the local port, and the host on the pod's side."""
    found = _PORT.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not PORT or PORT:LOCAL, such as 8888:9000")
    return int(found[1]), int(found[2] or found[1]), "localhost"


Open = Annotated[bool, flag("Open the address in the browser.", "--open")]


@api_command
def forward(
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
                await _wait_for_ctrl_c(forward)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    api.run(work)


async def _wait_for_ctrl_c(forward: primepods.AsyncForward) -> None:
    """Wait for Ctrl-C, the normal end. Then ignore it, since a second one would interrupt the cleanup."""
    import asyncio

    with suppress(asyncio.CancelledError):
        await forward.wait()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_START_TIMEOUT: Final = 60.0
_POLL_INTERVAL: Final = 1.0
# `pip install --user` puts programs into `~/.local/bin`.
_PATH: Final = 'PATH="$HOME/.local/bin:$PATH"; export PATH; '
_LIST: Final = f"{_PATH}jupyter server list --jsonlist"
# JupyterLab generates a token, which only the pod's user can read.
_START: Final = f"{_PATH}exec jupyter lab --no-browser --ip 127.0.0.1 --allow-root"


@api_command
def jupyter(api: Api, pod: PodHandle, *, open_browser: Open = False, login: LoginOptions) -> None:
    """Print the address of a notebook on a pod.

    If the pod came with a notebook, prints its address. Otherwise, forwards the port of the Jupyter server on
    the pod until Ctrl-C. If no server runs, starts JupyterLab as a job, which keeps running. JupyterLab must
    be installed on the pod. The address may contain a token: keep it secret.

    Examples:
      primepods jupyter train --open
      primepods exec train -- pip install jupyterlab    # if the pod has none
    """
    from primepods.remote import is_emulated

    with api.client() as client:
        found = client.pods.get(resolve_handle(client, pod, team=api.team))
    # Nothing listens at the address of an emulated pod.
    if found.jupyter_url is not None and not is_emulated(urlsplit(found.jupyter_url).hostname or ""):
        write(f"{found.jupyter_url}\n")
        if found.jupyter_password:
            print_info(f"Password: {found.jupyter_password}")
        if open_browser:
            open_page(found.jupyter_url)
        return

    async def work(client: primepods.AsyncClient) -> None:
        remote = client.pods.remote(found, node=login.node, **login.arguments())
        with primepods.exit_on_sigterm(), TemporaryDirectory(prefix="primepods-") as folder:
            port, address = await _find_server(remote) or await _start_server(remote)
            async with remote.forward(port) as forward:
                write(f"{forward.url}{address}\n")
                print_info("Ctrl-C ends the connection; the notebook keeps running.")
                if open_browser:
                    _open_secret_page(f"{forward.url}{address}", folder)
                await _wait_for_ctrl_c(forward)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    api.run(work)


async def _find_server(remote: primepods.AsyncRemote) -> tuple[int, str] | None:
    """Return the port of a Jupyter server on the pod, and JupyterLab's path with the token, if any.

    Return ``None`` if Jupyter lists no server, or cannot list servers.

    Raises:
        CommandError: The output of Jupyter is not a list of servers.
    """
    listed = await remote.run(_LIST, check=False)
    try:
        servers: list[dict[str, Any]] = json.loads(listed.stdout) if listed.exit_code == 0 else []
        for server in servers:
            token = f"?token={quote(server['token'], safe='')}" if server["token"] else ""
            return int(server["port"]), f"{quote(server['base_url'])}lab{token}"
    except (ValueError, KeyError, TypeError):
        # Do not show the output, which may hold a token.
        raise CommandError("`jupyter server list` on the pod printed no list of servers") from None
    return None


async def _start_server(remote: primepods.AsyncRemote) -> tuple[int, str]:
    """Start JupyterLab as a job, and return its port and path when the server is listed.

    Raises:
        CommandError: JupyterLab has ended, or is not listed in time.
    """
    import asyncio

    job = await remote.start(_START)
    print_info(f"Starting JupyterLab as the job {job.name}")
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT):
            while (await job.state()).is_running:
                if (server := await _find_server(remote)) is not None:
                    return server
                await asyncio.sleep(_POLL_INTERVAL)
    raise CommandError(
        f"JupyterLab is not ready on the pod: see its output (`primepods attach {remote.pod_id}/{job.name}`) "
        f"or install it with `primepods exec {remote.pod_id} -- pip install jupyterlab`"
    )


def _open_secret_page(url: str, folder: str) -> None:
    """Open a page through a file in a private folder: other users can see the browser's arguments."""
    page = Path(folder, "notebook.html")
    page.write_text(f'<meta http-equiv="refresh" content="0; url={url}">\n', encoding="utf-8")
    open_page(page.as_uri())
