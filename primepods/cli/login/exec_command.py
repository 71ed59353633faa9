"""`primepods exec`: run a command on a pod."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

import primepods

from .._shared.command import Api, api_command
from .._shared.errors import CommandError, ExitCode, print_error
from .._shared.handles import PodHandle, resolve_handle
from .._shared.login_options import (
    Env,
    LoginOptions,
    become_program,
    login_argv,
    parse_command,
    read_variables,
)
from .._shared.options import flag, option
from .._shared.table import write


@api_command
def command(
    api: Api,
    pod: PodHandle,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND", help="The command; a single word is a line for the pod's shell."
        ),
    ],
    *,
    env: Env = None,
    cwd: Annotated[str | None, option("Working directory, relative to the home directory.", "DIR")] = None,
    stdin: Annotated[
        bool, flag("Read stdin to its end and pass it to the command.", "--stdin", "-i")
    ] = False,
    tty: Annotated[
        bool,
        flag("Give the command a terminal, as ssh -t does. Not possible with --env.", "--tty", "-t"),
    ] = False,
    all_nodes: Annotated[
        bool,
        flag(
            "Run the command on all nodes at once, as for torchrun; lines start with their node's number.",
            "--all-nodes",
        ),
    ] = False,
    login: LoginOptions,
) -> None:
    """Run a command on a pod.

    Stdout, stderr and the exit code are those of the command; 255 may also mean that ssh has failed. An
    interruption ends the command on the pod. With --all-nodes, NODE_RANK, NNODES, MASTER_ADDR and MASTER_PORT
    are set, also with the prefix PET_, and the first failure ends the command on all nodes.

    Examples:
      primepods exec train -- nvidia-smi
      primepods exec -it train -- python
      primepods exec --all-nodes cluster -- torchrun --nproc-per-node 8 train.py
      primepods exec train -- 'cd work && python train.py | tee log'
    """
    if all_nodes and (tty or stdin or login.node):
        raise CommandError("--all-nodes cannot be combined with --node, --stdin or --tty", ExitCode.USAGE)
    if tty:
        from primepods.remote import SSHOptions, remote_path

        if env:
            raise CommandError(
                "--env cannot be combined with --tty: the command line of ssh would show the values",
                ExitCode.USAGE,
            )
        with api.client() as client:
            found = client.pods.get(resolve_handle(client, pod, team=api.team))
        given = parse_command(words)
        line = given if isinstance(given, str) else shlex.join(given)
        if cwd is not None:
            line = f"cd {shlex.quote(remote_path('--cwd', cwd))} && {shlex.join(['sh', '-c', line])}"
        become_program(login_argv(found, login.node, ["-t"], line, ssh=SSHOptions(**login.arguments())))
    variables = read_variables(env)
    # `main` replaces a closed stdin by a StringIO, which has no buffer.
    content = getattr(sys.stdin, "buffer", sys.stdin).read() if stdin else None
    with primepods.exit_on_sigterm(), api.client() as client:
        remote = login.remote(client, pod, team=api.team)
        if all_nodes:
            try:
                remote.run_all(parse_command(words), env=variables, cwd=cwd, on_line=_write_line)
            except primepods.CommandError as exc:
                print_error(api.command, exc)
                raise typer.Exit(exc.exit_code or ExitCode.FAILED) from None
            return
        result = remote.run(
            parse_command(words), env=variables, cwd=cwd, input=content, check=False, capture=False
        )
    raise typer.Exit(result.exit_code)


def _write_line(line: primepods.OutputLine) -> None:
    write(f"{line.node}: {line.text}\n", err=line.stream == "stderr")
