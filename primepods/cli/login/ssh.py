"""`primepods ssh` and `code`: log in to a pod, or open one of its folders in an editor."""

from __future__ import annotations

import shlex
import shutil
from enum import StrEnum
from typing import Annotated

import typer

from .._shared.command import Api, api_command
from .._shared.errors import CommandError, ExitCode
from .._shared.handles import PodHandle, resolve_handle
from .._shared.login_options import LoginOptions, Node, become_program, find_node, login_argv
from .._shared.options import flag, option
from .._shared.table import write


@api_command
def ssh(
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
    show: Annotated[bool, flag("Print the command instead of running it.", "--print")] = False,
) -> None:
    """Log in to a pod with ssh.

    User, host and port come from the API. primepods stores the host keys; your ssh configuration applies.
    PRIMEPODS_SSH_COMMAND replaces the ssh program. Options after -- go to ssh; a second -- precedes the
    command for the pod.

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


class Editor(StrEnum):
    """Values of ``--editor``."""

    CODE = "code"
    CURSOR = "cursor"


@api_command
def code(
    api: Api,
    pod: PodHandle,
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder on the pod, relative to the home directory.")
    ] = ".",
    *,
    editor: Annotated[Editor, option("VS Code or Cursor.")] = Editor.CODE,
    login: LoginOptions,
) -> None:
    """Open a folder of a pod in an editor, which logs in with ssh.

    Run `primepods ssh-config --install` first. VS Code also needs the extension Remote - SSH.

    Examples:
      primepods code train work
      primepods code train --editor cursor
    """
    from primepods.remote import HostEntry, find_host_alias, hosts_file, note_hosts

    if not hosts_file().exists():
        raise CommandError(
            "no pods are in ~/.ssh/config: run `primepods ssh-config --install` first", ExitCode.USAGE
        )
    with api.client() as client:
        found = client.pods.get(resolve_handle(client, pod, team=api.team))
        number, _ = find_node(found, login.node)
        note_hosts([HostEntry.of(found)])
        alias = find_host_alias(found.id, number)
        if alias is None:
            raise CommandError(f"{found.id!r} is not in {hosts_file()}: run `primepods ssh-config --install`")
        program = shutil.which(editor)
        if program is None:
            raise CommandError(
                f"the command {editor} is not on the PATH. Run \"Shell Command: Install '{editor}' command\" "
                f"in the editor's command palette, or open the host {alias} there"
            )
        remote = client.pods.remote(found, node=login.node, **login.arguments())
        # The editor needs an absolute path. This also checks that the login works.
        path = remote.run('cd -- "$FOLDER" && pwd', env={"FOLDER": folder}).stdout.rstrip("\n")
    if not path.startswith("/") or "\n" in path:
        # The editor could take the pod's output as an option.
        raise CommandError(f"the pod did not return an absolute path for {folder!r}")
    become_program([program, "--remote", f"ssh-remote+{alias}", path])
