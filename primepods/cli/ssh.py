"""`primepods ssh`: log in to a pod, or print the ssh command or configuration."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

import primepods

from ._command import Api, api_command
from ._errors import CommandError, ExitCode, print_error
from ._handles import OptionalPodHandle, resolve_handle
from ._lists import readable_rows
from ._remote import Node, become_ssh, find_node, login_argv
from ._table import write

_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Rest = Annotated[
    list[str] | None,
    typer.Argument(
        help="COMMAND for the pod, or -- SSH_OPTIONS, or -- SSH_OPTIONS -- COMMAND.",
        metavar="SSH_ARGS",
        show_default=False,
    ),
]
Print = Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")]
Config = Annotated[
    bool,
    typer.Option("--config", help="Print blocks for ~/.ssh/config; without a pod, for all that are ready."),
]


@api_command
def command(
    api: Api,
    pod: OptionalPodHandle = None,
    rest: Rest = None,
    *,
    node: Node = 0,
    show: Print = False,
    config: Config = False,
) -> None:
    """Log in to a pod with ssh.

    User, host and port come from the API, everything else from your ssh settings. Arguments after -- go to
    ssh.

    Examples:
      primepods ssh ID
      primepods ssh ID nvidia-smi
      primepods ssh ID -- -L 8888:localhost:8888
      primepods ssh ID -- -L 8888:localhost:8888 -- jupyter lab
      primepods ssh --config >> ~/.ssh/config     # then: ssh pod_NAME
    """
    if config:
        _print_config(api, pod)
        return
    if pod is None:
        raise CommandError("name the pod: primepods ssh POD", ExitCode.USAGE)
    from primepods.remote import SSHOptions

    with api.client() as client:
        found = client.pods.get(resolve_handle(client, pod, team=api.team))
    options, remote = _split(rest or [])
    argv = login_argv(found, node, options, remote, ssh=SSHOptions())
    if show:
        write(f"{shlex.join(argv)}\n")
        return
    become_ssh(argv)


def _split(rest: list[str]) -> tuple[list[str], str]:
    """Return the options of ssh, and the command line for the pod, joined as ssh does."""
    if rest and not rest[0].startswith("-"):
        return [], " ".join(rest)
    if "--" in rest:
        end = rest.index("--")
        return rest[:end], " ".join(rest[end + 1 :])
    return rest, ""


def _print_config(api: Api, handle: str | None) -> None:
    with api.client() as client:
        if handle is None:
            # Unreadable rows are reported after the block.
            with readable_rows(client.pods.list()) as pods:
                write(_config_blocks(api.command, [pod for pod in pods if pod.is_ready]))
        else:
            pod = client.pods.get(resolve_handle(client, handle, team=api.team))
            find_node(pod, 0)  # raises if the pod has no address
            write(_config_blocks(api.command, [pod]))


def _config_blocks(command: str, pods: Sequence[primepods.Pod]) -> str:
    """Return a block for each node with an address; report pods whose name and id are no host names."""
    name_aliases = {pod.id: _aliases(pod.name or "", pod) for pod in pods}
    id_aliases = {pod.id: _aliases(pod.id, pod) for pod in pods}
    # How many pods could use each alias. The set counts a pod once, even if its name equals its id.
    counts = Counter(alias for pod in pods for alias in {*name_aliases[pod.id], *id_aliases[pod.id]})
    blocks: list[str] = []
    for pod in pods:
        aliases = name_aliases[pod.id]
        # If two pods have the same name, both get aliases with their ids.
        is_ambiguous = any(counts[alias] > 1 for alias in aliases)
        if is_ambiguous or not _HOST_NAME.fullmatch(pod.name or ""):
            aliases = id_aliases[pod.id]
        try:
            blocks += _pod_blocks(pod, aliases)
        except ValueError:
            print_error(command, f"left out {pod.id!r}: ssh can use neither its name nor its id")
    return "\n".join(blocks)


def _pod_blocks(pod: primepods.Pod, aliases: Sequence[str]) -> list[str]:
    """Return a block for each node that has an address.

    Raises:
        ValueError: An alias is no host name.
    """
    from primepods.remote import machine_name

    return [
        node.ssh.config_block(alias) + _host_key_lines(machine_name(pod.id, number))
        for number, (alias, node) in enumerate(zip(aliases, pod.nodes, strict=True))
        if node.ssh is not None
    ]


def _host_key_lines(machine: str) -> str:
    """Return the lines by which ssh knows the same host keys as `exec`."""
    from primepods.remote import host_key_settings

    return "".join(f"    {name} {value}\n" for name, value in host_key_settings(machine).items())


def _aliases(host: str, pod: primepods.Pod) -> list[str]:
    """Return an alias for each node of a pod.

    Real host names contain no underscore: with ``pod_``, a pod named ``github.com`` cannot replace that host.
    """
    if len(pod.nodes) == 1:
        return [f"pod_{host}"]
    return [f"pod_{host}-{number}" for number in range(len(pod.nodes))]
