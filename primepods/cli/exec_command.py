"""`primepods exec`: run a command on a pod."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import primepods

from ._command import Api, api_command
from ._errors import CommandError, ExitCode
from ._handles import PodHandle, resolve_handle
from ._remote import Env, SshOptions, Words, become_ssh, login_argv, parse_command, read_variables

if TYPE_CHECKING:
    from primepods.remote import SSHOptions

Stdin = Annotated[
    bool, typer.Option("--stdin", "-i", help="Read stdin to its end and pass it to the command.")
]
Terminal = Annotated[
    bool,
    typer.Option("--tty", "-t", help="Give the command a terminal, as ssh -t does; without --env."),
]
Cwd = Annotated[
    str | None, typer.Option(help="Working directory, relative to the home directory.", metavar="DIR")
]


@api_command
def command(
    api: Api,
    pod: PodHandle,
    words: Words,
    *,
    env: Env = None,
    cwd: Cwd = None,
    stdin: Stdin = False,
    tty: Terminal = False,
    ssh: SshOptions,
) -> None:
    """Run a command on a pod.

    Stdout, stderr and the exit code are those of the command; 255 may also mean that ssh has failed. An
    interruption also ends the command on the pod.

    Examples:
      primepods exec train -- nvidia-smi
      primepods exec -it train -- python
      primepods exec train --env HF_TOKEN -- 'cd work && python train.py 2>&1 | tee log'
    """
    if tty:
        from primepods.remote import SSHOptions

        if env:
            raise CommandError(
                "--env and --tty exclude each other: ssh would show the values", ExitCode.USAGE
            )
        with api.client() as client:
            found = client.pods.get(resolve_handle(client, pod, team=api.team))
        argv = _terminal_argv(found, parse_command(words), cwd, SSHOptions(**ssh.arguments()))
        become_ssh(argv)
    variables = read_variables(env)
    # `main` replaces a closed stdin by a StringIO, which has no buffer.
    content = getattr(sys.stdin, "buffer", sys.stdin).read() if stdin else None
    with primepods.exit_on_sigterm(), api.client() as client:
        remote = client.pods.remote(resolve_handle(client, pod, team=api.team), **ssh.arguments())
        result = remote.run(
            parse_command(words), env=variables, cwd=cwd, input=content, check=False, capture=False
        )
    raise typer.Exit(result.exit_code)


def _terminal_argv(
    pod: primepods.Pod, command: str | list[str], cwd: str | None, options: SSHOptions
) -> list[str]:
    """Return the arguments of ``ssh`` for a command that has a terminal.

    Raises:
        CommandError: The pod has no address.
    """
    from primepods.remote import remote_path

    if pod.ssh is None:
        raise CommandError(f"the pod has no address yet: {pod}. Wait for it: primepods wait {pod.id}")
    line = command if isinstance(command, str) else shlex.join(command)
    if cwd is not None:
        line = f"cd {shlex.quote(remote_path('--cwd', cwd))} && {shlex.join(['sh', '-c', line])}"
    return login_argv(pod, pod.ssh, ["-t"], line, ssh=options)
