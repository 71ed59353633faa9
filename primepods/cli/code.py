"""`primepods code`: an editor whose files and terminals are on a pod."""

from __future__ import annotations

import shutil
from enum import StrEnum
from typing import Annotated

import typer

from ._command import Api, api_command
from ._errors import CommandError, ExitCode
from ._handles import PodHandle, resolve_handle
from ._remote import LoginOptions, become_program, find_node


class Editor(StrEnum):
    """Editors that log in to hosts of ~/.ssh/config."""

    CODE = "code"
    CURSOR = "cursor"


@api_command
def command(
    api: Api,
    pod: PodHandle,
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder on the pod, relative to the home directory.")
    ] = ".",
    *,
    editor: Annotated[Editor, typer.Option(help="VS Code or Cursor.")] = Editor.CODE,
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
        # Otherwise the pod's output could be read as an option of the editor.
        raise CommandError(f"the pod did not return an absolute path for {folder!r}")
    become_program([program, "--remote", f"ssh-remote+{alias}", path])
