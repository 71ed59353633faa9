"""`primepods ssh-config`: pods as hosts in the configuration of ssh."""

from __future__ import annotations

from typing import Annotated

import primepods

from .._shared.command import Api, api_command
from .._shared.errors import CommandError, ExitCode, print_error
from .._shared.handles import OptionalPodHandle, resolve_handle
from .._shared.login_options import find_node
from .._shared.options import flag
from .._shared.output import readable_rows
from .._shared.table import print_info, write
from .._shared.text import count


@api_command
def command(
    api: Api,
    pod: OptionalPodHandle = None,
    *,
    install: Annotated[
        bool, flag("Keep the pods in a file that ~/.ssh/config includes.", "--install")
    ] = False,
    uninstall: Annotated[
        bool, flag("Remove that file, and the line that includes it.", "--uninstall")
    ] = False,
) -> None:
    """Print or install pods as ssh hosts, named pod_NAME or, for several nodes, pod_NAME-N.

    The host is pod_ID if several of the pods have the name, or ssh cannot use the name. pod_ with the first 8
    characters of the id is also a host, if it is unique.

    Prints the blocks for ~/.ssh/config of one pod, or of all ready pods. With --install, writes them to a
    file that the first line of ~/.ssh/config includes, and prints the hosts. Leases and other commands then
    update this file. With --install again, the file has exactly the pods that are ready now.

    Examples:
      primepods ssh-config --install  # then: ssh pod_NAME, rsync, scp, code
      primepods ssh-config --uninstall
    """
    from primepods.remote import uninstall_hosts

    if install + uninstall + (pod is not None) > 1:
        raise CommandError("POD, --install and --uninstall cannot be combined", ExitCode.USAGE)
    if uninstall:
        uninstall_hosts()
        print_info("Removed: ~/.ssh/config has no pods of primepods any more.")
        return
    with api.client() as client:
        if pod is not None:
            found = client.pods.get(resolve_handle(client, pod, team=api.team))
            find_node(found, 0)  # raises if the pod has no address
            _write_or_install(api.command, [found], install=False)
            return
        # The error about unreadable rows is raised after the block.
        with readable_rows(client.pods.list()) as listed:
            _write_or_install(api.command, [pod for pod in listed if pod.is_ready], install=install)


def _write_or_install(command: str, pods: list[primepods.Pod], *, install: bool) -> None:
    from primepods.remote import HostEntry, choose_aliases, config_blocks, hosts_file, install_hosts

    entries = [HostEntry.of(pod) for pod in pods]
    chosen = choose_aliases(entries)
    for entry in entries:
        if entry.pod_id not in chosen:
            print_error(command, f"skipped {entry.pod_id!r}: ssh can use neither its name nor its id")
    if not install:
        write(config_blocks(entries))
        return
    install_hosts(entries)
    print_info(f"{count(chosen, 'pod')} in {hosts_file()}, which ~/.ssh/config includes.")
    write("".join(f"{names[0]}\n" for nodes in chosen.values() for names in nodes))
