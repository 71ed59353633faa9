"""`primepods exec`: run a command on a pod."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import primepods

from ._command import Api, api_command
from ._handles import PodHandle, resolve_handle
from ._remote import Env, SshCommand, SshOptions, line_of, read_variables

Words = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND", help="What to run; one word is a line for the shell there."),
]
Stdin = Annotated[
    bool, typer.Option("--stdin", "-i", help="Read stdin to its end, and give it to the command.")
]
Cwd = Annotated[
    str | None, typer.Option(help="The folder to run in, from the home directory on.", metavar="DIR")
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
    ssh_options: SshOptions = None,
    ssh_command: SshCommand = "ssh",
) -> None:
    """Run a command on a pod.

    Its stdout, stderr and exit code are the command's own; 255 also means that ssh has failed. Interrupted,
    the command ends on the pod, too.

    Examples:
      primepods exec train -- nvidia-smi
      primepods exec train --env HF_TOKEN -- 'cd work && python train.py 2>&1 | tee log'
    """
    variables = read_variables(env)
    given = getattr(sys.stdin, "buffer", sys.stdin).read() if stdin else None
    with primepods.exit_on_sigterm(), api.client() as client:
        remote = client.pods.remote(
            resolve_handle(client, pod, team=api.team), ssh_options=ssh_options or [], ssh_command=ssh_command
        )
        result = remote.run(line_of(words), env=variables, cwd=cwd, input=given, check=False, capture=False)
    raise typer.Exit(result.exit_code)
