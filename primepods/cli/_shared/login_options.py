"""Options and logins of the commands that log in to pods."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import attrs
import typer

import primepods

from .errors import CommandError, ExitCode
from .handles import resolve_handle
from .options import login_option, option, pod_option
from .text import count

if TYPE_CHECKING:
    from primepods.remote import SSHOptions


_VARIABLE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)

Env = Annotated[
    list[str] | None,
    option(
        "Environment variable to set, by default with its local value; may be repeated.",
        "NAME[=VALUE]",
        "--env",
        "-e",
    ),
]
EnvFile = Annotated[
    typer.FileText | None,
    pod_option("File with a line NAME=VALUE for each variable.", "FILE"),
]
Node = Annotated[
    int, login_option("Node of a multi-node pod; 0 is the first that has an address.", "N", min=0)
]


@attrs.frozen(kw_only=True)
class SshOptions:
    """Login options; each is a parameter of ``pods.remote`` and ``pods.lease``."""

    ssh_options: Annotated[
        list[str] | None,
        login_option(
            "An argument of ssh, such as --ssh-option=-i --ssh-option=key.pem; may be repeated.",
            "WORD",
            "--ssh-option",
        ),
    ] = None
    ssh_command: Annotated[
        str,
        login_option("The ssh program; by default that of PRIMEPODS_SSH_COMMAND, or ssh.", "COMMAND"),
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


def read_variables(given: Iterable[str] | None, file: Iterable[str] | None = None) -> dict[str, str]:
    """Return the environment variables of ``--env-file`` and ``--env``, which takes precedence.

    Raises:
        CommandError: A variable has an invalid form, or is given without a value and not set here.
    """
    from primepods.config import environment_variable

    lines = [line.strip("\r\n") for line in file or () if line.strip() and not line.lstrip().startswith("#")]
    variables: dict[str, str] = {}
    for text in (*lines, *(given or ())):
        found = _VARIABLE.fullmatch(text)
        if found is None:
            # Do not show the text: it may hold a secret.
            problem = "an environment variable must be NAME or NAME=VALUE, with letters, digits and _ in NAME"
            raise CommandError(problem, ExitCode.USAGE)
        name = found[1]
        value = environment_variable(name) if found[2] is None else found[2]
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
    advice = "" if pod.has_failed else f". If the pod is starting, wait with `primepods wait {pod.id}`"
    raise CommandError(f"{subject} has no address: {pod}{advice}")
