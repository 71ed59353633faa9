"""`primepods run`: a pod for one command: rented, logged in to, used, and given back."""

from __future__ import annotations

import os
import posixpath
import time
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

import primepods

from ._command import Api, api_command
from ._durations import short_duration
from ._errors import CommandError, ExitCode, complain
from ._offers import (
    ExcludeProviders,
    GpuCount,
    GpuType,
    MaxPrice,
    Provider,
    Regions,
    Security,
    Socket,
    Spot,
    Wait,
)
from ._pod_table import price
from ._remote import Env, SshCommand, SshOptions, line_of, progress, read_variables
from ._table import tell
from .create import DiskSize, Image, SshKey, TemplateId, find_key

_MAX_OFFERS = 5
"""Offers that are tried, one after the other."""
_FETCHES = 3
"""How often a result is fetched whose connection is lost: the pod is about to go."""
_PANEL = "On the pod"

Words = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND", help="What to run; one word is a line for the shell there."),
]
Uploads = Annotated[
    list[str] | None,
    typer.Option(
        "--upload",
        help="Copy this to the pod before; the command runs in the first folder. May be repeated.",
        metavar="LOCAL[:REMOTE]",
        rich_help_panel=_PANEL,
    ),
]
Downloads = Annotated[
    list[str] | None,
    typer.Option(
        "--download",
        help="Copy this from the pod afterwards, also if the command failed. May be repeated.",
        metavar="REMOTE[:LOCAL]",
        rich_help_panel=_PANEL,
    ),
]
MaxHours = Annotated[
    float | None,
    typer.Option(help="Hours after which the pod is deleted, whatever it does.", metavar="HOURS"),
]
MaxSpend = Annotated[
    float | None, typer.Option(help="What it may cost before it is deleted.", metavar="AMOUNT")
]
Name = Annotated[str | None, typer.Option(help="How the pod's name begins.", metavar="NAME")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the pod running afterwards: it is billed.")]


@attrs.frozen(kw_only=True)
class _Job:
    """What to rent, and what to do there.

    Attributes:
        find: The parameters of ``availability.find``.
        changes: Fields of the order.
        lease: The parameters of ``pods.lease``.
        ssh_key: Id or name of the SSH key to let in.
        line: The command.
        variables: Its environment.
        uploads: Paths here, and where they go.
        downloads: Paths there, and where they go.
        keep: Whether the pod goes on afterwards.
    """

    find: dict[str, Any]
    changes: dict[str, Any]
    lease: dict[str, Any]
    ssh_key: str | None
    line: str | list[str]
    variables: dict[str, str]
    uploads: list[tuple[Path, str]]
    downloads: list[tuple[str, str]]
    keep: bool


@api_command
def command(
    api: Api,
    words: Words,
    *,
    upload: Uploads = None,
    download: Downloads = None,
    max_hours: MaxHours = None,
    max_spend: MaxSpend = None,
    name: Name = None,
    keep: Keep = False,
    env: Env = None,
    ssh_options: SshOptions = None,
    ssh_command: SshCommand = "ssh",
    gpu_type: GpuType = None,
    gpu_count: GpuCount = 1,
    regions: Regions = None,
    socket: Socket = None,
    security: Security = None,
    provider: Provider = None,
    exclude_providers: ExcludeProviders = None,
    spot: Spot = False,
    max_price: MaxPrice = None,
    wait: Wait = None,
    image: Image = None,
    custom_template_id: TemplateId = None,
    disk_size: DiskSize = None,
    ssh_key: SshKey = None,
) -> None:
    r"""Rent a pod for one command: log in, run it, fetch its results, give the pod back.

    Takes the cheapest offer that fits, and the next where one is sold out, fails to boot or lets nobody log
    in. Stdout, stderr and the exit code are the command's own; what primepods says goes to stderr. The pod is
    given back whatever happens: also on Ctrl-C, SIGTERM and SIGHUP, which end the command. It asks nothing:
    --max-price, --max-hours and --max-spend say what it may cost.

    Examples:
      primepods run --gpu-type H100 --gpu-count 8 --max-price 20 --max-hours 2 \
        --upload . --download out/:results/ -- python train.py
      primepods run --gpu-type A100 --env HF_TOKEN -- 'nvidia-smi && python -c "import torch"'
    """
    if gpu_type is None:
        raise CommandError("say which GPU: --gpu-type H100, or '*' for any", ExitCode.USAGE)
    find = {
        "gpu_type": gpu_type,
        "gpu_count": gpu_count,
        "regions": regions,
        "socket": socket,
        "security": security,
        "provider": provider,
        "exclude_providers": exclude_providers,
        "max_price": max_price,
        "wait": wait,
    }
    changes = {
        "name": name,
        "image": image,
        "custom_template_id": custom_template_id,
        "disk_size": disk_size,
        "max_price": max_price,
    }
    job = _Job(
        find=_given(find) | {"spot": spot, "limit": _MAX_OFFERS},
        changes=_given(changes),
        lease={
            "login": True,
            "ssh_options": ssh_options or [],
            "ssh_command": ssh_command,
            "max_hours": max_hours,
            "max_spend": max_spend,
        },
        ssh_key=ssh_key,
        line=line_of(words),
        variables=read_variables(env),
        uploads=[_upload(text) for text in upload or ()],
        downloads=[_download(text) for text in download or ()],
        keep=keep,
    )
    raise typer.Exit(api.run(_Run(api.command, job).execute))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _upload(text: str) -> tuple[Path, str]:
    """Return what to copy, and where to: by default a folder or file of its name.

    Raises:
        CommandError: It is not there.
    """
    local, _, remote = text.partition(":")
    path = Path(local)
    if not local:
        raise CommandError("--upload is empty: name what to copy, as in --upload .:work", ExitCode.USAGE)
    if not path.exists():
        raise CommandError(f"--upload {local}: there is no such file or folder", ExitCode.USAGE)
    return path, remote or path.resolve().name or "work"


def _download(text: str) -> tuple[str, str]:
    """Return what to copy, and where to: by default a folder or file of its name.

    Raises:
        CommandError: Nothing is named, or it cannot be put here.
    """
    remote, _, local = text.partition(":")
    if not remote:
        raise CommandError("--download is empty: name what to copy, as in --download out/", ExitCode.USAGE)
    local = local or posixpath.basename(remote.rstrip("/")) or "."
    # Now, and not after hours of work, when the pod is about to go.
    target = Path(local).absolute()
    there = next(path for path in (target, *target.parents) if path.exists())
    if there.is_dir():
        can_write = os.access(there, os.W_OK | os.X_OK)
    else:
        can_write = there == target and os.access(there.parent, os.W_OK | os.X_OK)
    if not can_write:
        raise CommandError(f"--download {text}: {there} here cannot be written", ExitCode.USAGE)
    return remote, local


class _Run:
    """One run of `primepods run`.

    Args:
        command: The command's name as typed.
        job: What to do.
    """

    def __init__(self, command: str, job: _Job) -> None:
        self._command = command
        self._job = job
        self._has_pod = False
        self._stage: object = None
        self._begun = time.monotonic()

    async def execute(self, client: primepods.AsyncClient) -> int:
        """Rent, work, and give back; return the command's exit code."""
        # Here and not around the event loop: where Ctrl-C is ignored, it must know the task.
        with primepods.exit_on_sigterm():
            specs = await self._specs(client)
            self._begun = time.monotonic()
            lease = client.pods.lease(specs, on_change=self._show_change, **self._job.lease)
            pod: primepods.AsyncLeasedPod | None = None
            try:
                async with lease as pod:
                    if self._job.keep:
                        pod.keep()
                    try:
                        code = await self._work(pod)
                    finally:
                        # Else somebody who has pressed Ctrl-C would press it again.
                        if not self._job.keep:
                            tell(f"Giving back the pod {pod.name}: waiting until that is confirmed")
            except BaseException as exc:
                # A lease's note says that the pod may be billed.
                if not getattr(exc, "__notes__", ()) and not isinstance(exc, primepods.NotReleasedError):
                    self._tell_end(pod, is_interrupted=not isinstance(exc, Exception))
                raise
            self._tell_end(pod)
            return code

    async def _specs(self, client: primepods.AsyncClient) -> list[primepods.PodSpec]:
        job = self._job
        changes = dict(job.changes)
        if job.ssh_key is not None:
            changes["ssh_key_id"] = find_key(job.ssh_key, [key async for key in client.ssh_keys.list()])
        offers = await client.availability.find(**job.find)
        if not offers:
            raise CommandError("no offer fits now: see primepods offers, or wait with --wait 2h")
        specs = primepods.PodSpec.from_offers(offers, **changes)
        first, rest = offers[0], len(specs) - 1
        more = f", or the next of {rest} more offers" if rest else ""
        money = price(first.price_hr, first.prices.currency)
        tell(f"Renting {first.gpu_count} x {first.gpu_type} at {first.provider} for {money} an hour{more}")
        return specs

    async def _work(self, pod: primepods.AsyncLeasedPod) -> int:
        job = self._job
        tell(f"Logged in to {pod.name} ({pod.id}): {pod.ssh}")
        for local, remote in job.uploads:
            with progress(f"uploaded {local}") as on_progress:
                await pod.upload(local, remote, on_progress=on_progress)
            tell(f"Uploaded {local} to {remote}")
        folder = next((remote for local, remote in job.uploads if local.is_dir()), None)
        try:
            result = await pod.run(job.line, env=job.variables, cwd=folder, check=False, capture=False)
        except primepods.ConnectionLostError:
            # What it has done until then would go with the pod.
            await self._fetch(pod, folder)
            raise
        failed = await self._fetch(pod, folder)
        return result.exit_code or failed

    async def _fetch(self, pod: primepods.AsyncLeasedPod, folder: str | None) -> int:
        """Copy the results here; return an exit code."""
        code = 0
        for remote, local in self._job.downloads:
            source = posixpath.join(folder or "", remote) if not remote.startswith("~") else remote
            try:
                await self._fetch_one(pod, source, local)
            except (primepods.TransferError, primepods.ConnectionLostError, OSError) as error:
                # The others are fetched all the same: the pod is about to go.
                complain(self._command, error)
                code = ExitCode.FAILED
            else:
                tell(f"Downloaded {remote} to {local}")
        return code

    async def _fetch_one(self, pod: primepods.AsyncLeasedPod, source: str, local: str) -> None:
        """Copy a result here; where the connection is lost, again."""
        for left in reversed(range(_FETCHES)):
            try:
                with progress(f"downloaded {source}") as on_progress:
                    await pod.download(source, local, on_progress=on_progress)
            except primepods.ConnectionLostError as error:
                if not left:
                    raise
                complain(self._command, f"{error} Trying again.")
            else:
                return

    def _show_change(self, change: primepods.PodChange) -> None:
        """Tell how far the pod is, but not each percent of an installation."""
        self._has_pod = True
        after = change.after
        stage = change.pod_id, after and (after.status, after.installation_status, after.is_ready)
        if after is not None and stage != self._stage:
            tell(str(after))
        self._stage = stage

    def _tell_end(self, pod: primepods.AsyncLeasedPod | None, *, is_interrupted: bool = False) -> None:
        minutes = short_duration(time.monotonic() - self._begun)
        if pod is None:
            if self._has_pod or is_interrupted:
                tell(f"What was rented was given back, after {minutes}.")
            return
        cost = f"after {minutes}, for about {price(pod.spent())}"
        if self._job.keep:
            tell(
                f"The pod {pod.name} goes on, {cost}, and is billed: primepods ssh {pod.id}, and then "
                f"primepods delete {pod.id}"
            )
        else:
            tell(f"The pod {pod.name} ({pod.id}) was given back, {cost}.")
