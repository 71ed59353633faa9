"""`primepods cp`: copy files and folders to a pod, or from it."""

from __future__ import annotations

from typing import Annotated

import typer

import primepods

from .._shared.command import Api, api_command
from .._shared.copies import Exclude, ExcludeFrom, measure_and_warn, parse_exclusion, progress, split_at_colon
from .._shared.errors import CommandError, ExitCode
from .._shared.login_options import LoginOptions

PathArgument = Annotated[str, typer.Argument(help="A local path, or POD:PATH.", show_default=False)]


@api_command
def command(
    api: Api,
    source: PathArgument,
    target: PathArgument,
    *,
    exclude: Exclude = None,
    exclude_from: ExcludeFrom = None,
    login: LoginOptions,
) -> None:
    """Copy a file or a folder to a pod, or from it, completely or not at all.

    The content of a folder goes into the target folder; files of the same names are replaced. A file goes
    into the target if the target is a folder or ends with a slash. A path in the pod of a run is looked for
    where its command runs, and then in the home folder.

    Examples:
      primepods cp data train:work/data
      primepods cp . train:work --exclude .git --exclude-from .gitignore
      primepods cp train:work/results/ results
    """
    from primepods.runs import find_sources

    from_pod, to_pod = _split(source), _split(target)
    on_pod = from_pod or to_pod
    if on_pod is None or (from_pod and to_pod):
        raise CommandError("one argument must be POD:PATH, the other a local path", ExitCode.USAGE)
    if (exclude or exclude_from) and not to_pod:
        raise CommandError("--exclude and --exclude-from are only for copies to a pod", ExitCode.USAGE)
    handle, path = on_pod
    if "-" in {source, target}:
        raise CommandError(
            f"cp copies files, not stdin or stdout: see `primepods exec {handle} -- cat`", ExitCode.USAGE
        )
    if from_pod and set(path) & set("*?"):
        raise CommandError("cp takes no patterns: name a file, or a folder to copy all of it", ExitCode.USAGE)
    exclusion = parse_exclusion(exclude, exclude_from)
    total = measure_and_warn(api.command, source, exclusion).bytes if to_pod else None
    with primepods.exit_on_sigterm(), api.client() as client:
        remote = login.remote(client, handle, team=api.team)
        with progress("copied", total) as on_progress:
            if to_pod:
                remote.upload(source, path, exclude=exclusion, on_progress=on_progress)
            else:
                *others, last = find_sources(handle, remote.pod_id, path)
                there = (
                    place for place in others if not remote.run(["test", "-e", place], check=False).exit_code
                )
                remote.download(next(there, last), target, on_progress=on_progress)


def _split(text: str) -> tuple[str, str] | None:
    """Return the pod and the path of ``POD:PATH``; ``None`` for a local path, such as ``./a:b``."""
    handle, colon, path = split_at_colon(text)
    is_on_pod = colon and handle and "/" not in handle
    return (handle, path or ".") if is_on_pod else None
