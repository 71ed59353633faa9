"""Options and logins of the commands that log in to pods."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import attrs
import typer

import primepods

from .errors import CommandError, ExitCode
from .handles import resolve_handle
from .text import count

if TYPE_CHECKING:
    from primepods.remote import SSHOptions

    from .command import Api

_option = partial(typer.Option, rich_help_panel="On the pod")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)

Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        help="Environment variable of the command, by default with its local value; may be repeated.",
        metavar="NAME[=VALUE]",
    ),
]
Node = Annotated[
    int, _option(min=0, metavar="N", help="Node of a multi-node pod; 0 is the first that has an address.")
]


@attrs.frozen(kw_only=True)
class SshOptions:
    """Login options; each is a parameter of ``pods.remote`` and ``pods.lease``."""

    ssh_options: Annotated[
        list[str] | None,
        _option(
            "--ssh-option",
            help="An argument of ssh, such as --ssh-option=-i --ssh-option=key.pem; may be repeated.",
            metavar="WORD",
        ),
    ] = None
    ssh_command: Annotated[
        str,
        _option(help="The ssh program; by default that of PRIMEPODS_SSH_COMMAND, or ssh.", metavar="COMMAND"),
    ] = "ssh"  # the library replaces "ssh" with PRIMEPODS_SSH_COMMAND, if that is set

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of ``pods.remote``."""
        return {"ssh_options": self.ssh_options or [], "ssh_command": self.ssh_command}


@attrs.frozen(kw_only=True)
class LoginOptions(SshOptions):
    """Options to log in to a node; each is a parameter of ``pods.remote``."""

    node: Node = 0

    def remote(self, client: primepods.Client, pod: str, *, team: str | None) -> primepods.Remote:
        """Return a :class:`~primepods.Remote` for the pod that a handle names."""
        pod_id = resolve_handle(client, pod, team=team)
        return client.pods.remote(pod_id, node=self.node, **self.arguments())


def parse_command(words: list[str]) -> str | list[str]:
    """Return one word as a line for the pod's shell, and several words as a program and its arguments.

    Raises:
        CommandError: The command is empty.
    """
    if not " ".join(words).strip():
        raise CommandError("the command is empty", ExitCode.USAGE)
    return words[0] if len(words) == 1 else words


def read_variables(given: Iterable[str] | None) -> dict[str, str]:
    """Return the environment variables of ``--env``.

    Raises:
        CommandError: An argument has an invalid form, or names a variable that is not set here.
    """
    from primepods.config import environment_variable

    variables: dict[str, str] = {}
    for text in given or ():
        found = _VARIABLE.fullmatch(text)
        if found is None:
            # Do not show the text: it may hold a secret.
            raise CommandError("--env must be of the form NAME or NAME=VALUE", ExitCode.USAGE)
        name, value = found[1], found[2]
        if value is None:
            value = environment_variable(name)
        if value is None:
            raise CommandError(
                f"--env {name}: the variable is not set on this machine. Set it, or pass {name}=VALUE",
                ExitCode.USAGE,
            )
        variables[name] = value
    return variables


def become_program(argv: Sequence[str]) -> NoReturn:
    """Replace this process with ssh or an editor, so that the API key does not stay in memory.

    Raises:
        CommandError: The program is not installed.
    """
    from primepods.config import environment_without_key

    from .stderr import finish_stderr

    if shutil.which(argv[0]) is None:
        # Raise before stderr's writer ends, since the message would be lost after that.
        hint = ": install OpenSSH" if argv[0] == "ssh" else ""
        raise CommandError(f"{argv[0]} is not installed here{hint}")
    finish_stderr()
    os.execvpe(argv[0], list(argv), environment_without_key())  # noqa: S606 - no shell: host and user are checked


def open_page(url: str) -> None:
    """Open a page in the browser without waiting for it; the API key is not in the browser's environment."""
    from primepods.config import environment_without_key

    process = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-m", "webbrowser", url],
        env=environment_without_key(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # otherwise Popen would warn that it still runs


def login_argv(
    pod: primepods.Pod, node: int, options: Sequence[str], line: str, *, ssh: SSHOptions
) -> list[str]:
    """Return the command that logs in to a node.

    The host key settings come last, so that ``options`` and the options of ``ssh`` override them.

    Raises:
        CommandError: The pod has no such node, or the node has no address.
    """
    from primepods.remote import host_key_settings, machine_name

    number, target = find_node(pod, node)
    settings = host_key_settings(machine_name(pod.id, number))
    host_keys = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    argv = target.argv(*options, *ssh.ssh_options, *host_keys, command=line or None)
    return [*ssh.ssh_command, *argv[1:]]


def find_node(pod: primepods.Pod, node: int) -> tuple[int, primepods.SSHTarget]:
    """Return a node's number and ssh target; for 0, those of the first node that has an address.

    Raises:
        CommandError: The pod has no such node, or the node has no address.
    """
    nodes = pod.nodes
    # Without an address, the number of nodes is not known.
    if pod.ssh is not None and node >= len(nodes):
        raise CommandError(f"--node {node}: the pod {pod.id} has {count(nodes, 'node')}", ExitCode.USAGE)
    number = node or next((number for number, found in enumerate(nodes) if found.ssh is not None), 0)
    target = None if pod.ssh is None else nodes[number].ssh
    if target is not None:
        return number, target
    subject = f"node {node} of the pod" if node else "the pod"
    if pod.has_failed:
        raise CommandError(f"{subject} has no address, and the pod has failed: {pod}")
    raise CommandError(
        f"{subject} has no address: {pod}. If the pod is starting, wait with `primepods wait {pod.id}`"
    )


def run_until_interrupted(api: Api, work: Callable[[primepods.AsyncClient], Awaitable[None]]) -> None:
    """Run work that Ctrl-C interrupts.

    Until the work has ended, ignore any further Ctrl-C, since it would interrupt the cleanup.
    """

    async def handle_interrupts(client: primepods.AsyncClient) -> None:
        handler = signal.getsignal(signal.SIGINT)  # asyncio's, which cancels this task

        def handle_first(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_IGN)
            if callable(handler):
                handler(number, frame)

        if not callable(handler):
            return await work(client)
        signal.signal(signal.SIGINT, handle_first)
        try:
            return await work(client)
        finally:
            # Restore the handler here: afterwards, asyncio may wait long for threads that look up host names.
            signal.signal(signal.SIGINT, handler)

    previous = signal.getsignal(signal.SIGINT)
    try:
        api.run(handle_interrupts)
    finally:
        signal.signal(signal.SIGINT, previous)
