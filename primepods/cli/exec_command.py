"""`primepods exec`: run a command on a pod."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import primepods

from ._command import Api, api_command
from ._handles import PodHandle, resolve_handle
from ._remote import Env, SshOptions, Words, parse_command, read_variables

Stdin = Annotated[
    bool, typer.Option("--stdin", "-i", help="Read stdin to its end and pass it to the command.")
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
    ssh: SshOptions,
) -> None:
    """Run a command on a pod.

    Stdout, stderr and the exit code are those of the command; 255 may also mean that ssh has failed. An
    interruption also ends the command on the pod.

    Examples:
      primepods exec train -- nvidia-smi
      primepods exec train --env HF_TOKEN -- 'cd work && python train.py 2>&1 | tee log'
    """
    variables = read_variables(env)
    # `main` replaces a closed stdin by a StringIO, which has no buffer.
    content = getattr(sys.stdin, "buffer", sys.stdin).read() if stdin else None
    with primepods.exit_on_sigterm(), api.client() as client:
        remote = client.pods.remote(resolve_handle(client, pod, team=api.team), **ssh.arguments())
        result = remote.run(
            parse_command(words), env=variables, cwd=cwd, input=content, check=False, capture=False
        )
    raise typer.Exit(result.exit_code)
