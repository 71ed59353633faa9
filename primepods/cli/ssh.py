"""`primepods ssh`: log in to a pod, or print the ssh command."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ._command import Api, api_command
from ._handles import PodHandle, resolve_handle
from ._remote import Node, become_program, login_argv
from ._table import write


@api_command
def command(
    api: Api,
    pod: PodHandle,
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            help="COMMAND for the pod, or -- SSH_OPTIONS, or -- SSH_OPTIONS -- COMMAND.",
            metavar="SSH_ARGS",
            show_default=False,
        ),
    ] = None,
    *,
    node: Node = 0,
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")] = False,
) -> None:
    """Log in to a pod with ssh.

    User, host and port come from the API. primepods stores the host keys; your ssh configuration applies.
    PRIMEPODS_SSH_COMMAND replaces the ssh program. Options after -- go to ssh; a second -- begins the command
    for the pod.

    Examples:
      primepods ssh ID
      primepods ssh ID nvidia-smi
      primepods ssh ID -- -L 8888:localhost:8888
      primepods ssh ID -- -L 8888:localhost:8888 -- jupyter lab
    """
    from primepods.remote import HostEntry, SSHOptions, note_hosts

    with api.client() as client:
        found = client.pods.get(resolve_handle(client, pod, team=api.team))
    note_hosts([HostEntry.of(found)])
    options, remote = _split(rest or [])
    argv = login_argv(found, node, options, remote, ssh=SSHOptions())
    if show:
        write(f"{shlex.join(argv)}\n")
        return
    become_program(argv)


def _split(rest: list[str]) -> tuple[list[str], str]:
    """Return the options of ssh, and the command line for the pod, joined as ssh does."""
    if rest and not rest[0].startswith("-"):
        return [], " ".join(rest)
    if "--" in rest:
        end = rest.index("--")
        return rest[:end], " ".join(rest[end + 1 :])
    return rest, ""
