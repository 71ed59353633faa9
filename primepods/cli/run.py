"""`primepods run`: rent a pod, run one command on it, fetch the results, delete the pod."""

from __future__ import annotations

import asyncio
import posixpath
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

import primepods

from ._command import Api, api_command
from ._copies import (
    Downloads,
    Exclude,
    ExcludeFrom,
    Uploads,
    describe,
    measure,
    parse_download,
    parse_exclusion,
    parse_upload,
    progress,
)
from ._durations import short_duration
from ._errors import CommandError, ExitCode, print_error
from ._offers import DiskSize, Image, OfferFilters, SshKey, TemplateId, find_key, without_unset
from ._pod_table import price
from ._remote import Env, SshOptions, Words, parse_command, read_variables
from ._table import print_info

if TYPE_CHECKING:
    from primepods.remote import Exclusion

_MAX_OFFERS = 5
"""Offers to try, one after the other."""
_MAX_DOWNLOAD_ATTEMPTS = 3
"""Attempts to download a result if the connection is lost: the pod is about to be deleted."""

MaxHours = Annotated[
    float | None,
    typer.Option(help="Delete the pod after so many hours.", metavar="HOURS"),
]
MaxSpend = Annotated[
    float | None, typer.Option(help="Delete the pod when it has cost this much.", metavar="AMOUNT")
]
Name = Annotated[str | None, typer.Option(help="Beginning of the pod's name.", metavar="NAME")]
Remove = Annotated[bool, typer.Option("--rm", hidden=True)]
"""Accepted because `docker run` has it; the pod is deleted anyway."""
Keep = Annotated[bool, typer.Option("--keep", help="Leave the pod running afterwards: it is billed.")]
KeepOnFailedDownload = Annotated[
    bool,
    typer.Option(
        "--keep-on-failed-download",
        help="Leave the pod running if a download fails: it is billed until you delete it.",
    ),
]


@attrs.frozen(kw_only=True)
class _Job:
    """The pod to rent, and the work to do on it.

    Attributes:
        find: The arguments of ``availability.find``.
        changes: Fields of the order that differ from the offer's.
        lease: The arguments of ``pods.lease``.
        ssh_key: Id or name of the SSH key that may log in.
        command: The command, as for ``pod.run``.
        variables: The command's environment variables.
        uploads: Local paths, each with its target on the pod.
        exclusion: Files not to upload.
        downloads: Paths on the pod, each with its local target.
        keep: Whether to leave the pod running.
        keep_on_failed_download: Whether to leave it running if a download fails.
    """

    find: dict[str, Any]
    changes: dict[str, Any]
    lease: dict[str, Any]
    ssh_key: str | None
    command: str | list[str]
    variables: dict[str, str]
    uploads: list[tuple[Path, str]]
    exclusion: Exclusion
    downloads: list[tuple[str, str]]
    keep: bool
    keep_on_failed_download: bool


@api_command
def command(
    api: Api,
    words: Words,
    *,
    upload: Uploads = None,
    exclude: Exclude = None,
    exclude_from: ExcludeFrom = None,
    download: Downloads = None,
    max_hours: MaxHours = None,
    max_spend: MaxSpend = None,
    name: Name = None,
    keep: Keep = False,
    keep_on_failed_download: KeepOnFailedDownload = False,
    remove: Remove = False,
    env: Env = None,
    ssh: SshOptions,
    filters: OfferFilters,
    image: Image = None,
    custom_template_id: TemplateId = None,
    disk_size: DiskSize = None,
    ssh_key: SshKey = None,
) -> None:
    r"""Rent a pod for one command: log in, run it, fetch the results, delete the pod.

    Takes the cheapest offer that fits (one GPU by default), and the next one if it is sold out, does not boot
    or accepts no login. Stdout, stderr and the exit code are the command's; messages of primepods go to
    stderr. The pod is deleted whatever happens, also on Ctrl-C, SIGTERM and SIGHUP, which end the command.
    Does not ask for confirmation: limit the cost with --max-price, --max-hours and --max-spend.

    Examples:
      primepods run --gpu-type H100 --gpu-count 8 --max-price 20 --max-hours 2 \
        --upload . --exclude .git --download out/:results/ -- python train.py
      primepods run --gpu-type A100 --env HF_TOKEN -- 'nvidia-smi && python -c "import torch"'
    """
    if filters.gpu_type is None:
        raise CommandError("name the GPU: --gpu-type H100, or '*' for any", ExitCode.USAGE)
    if keep and remove:
        raise CommandError("--keep and --rm exclude each other", ExitCode.USAGE)
    changes = {
        "name": name,
        "image": image,
        "custom_template_id": custom_template_id,
        "disk_size": disk_size,
        "max_price": filters.max_price,
    }
    job = _Job(
        find=filters.given() | {"limit": _MAX_OFFERS},
        changes=without_unset(changes),
        lease={"login": True, "max_hours": max_hours, "max_spend": max_spend, **ssh.arguments()},
        ssh_key=ssh_key,
        command=parse_command(words),
        variables=read_variables(env),
        uploads=[parse_upload(text) for text in upload or ()],
        exclusion=parse_exclusion(exclude, exclude_from),
        downloads=[parse_download(text) for text in download or ()],
        keep=keep,
        keep_on_failed_download=keep_on_failed_download,
    )
    try:
        primepods.check_work(
            job.command,
            env=job.variables,
            downloads=[remote for remote, _ in job.downloads],
        )
    except ValueError as exc:
        raise CommandError(str(exc), ExitCode.USAGE) from None
    raise typer.Exit(api.run(_Run(api.command, job).execute))


class _Run:
    """One run of `primepods run`.

    Args:
        program: The name of this command as typed, for messages.
        job: The work.
    """

    def __init__(self, program: str, job: _Job) -> None:
        self._program = program
        self._job = job
        self._is_kept = job.keep
        self._upload_sizes: dict[Path, int] = {}
        self._was_ordered = False
        self._is_renting = False
        """``True`` from the order until the pod is ready and accepts the login."""
        self._last_stage: object = None
        self._started_at = time.monotonic()

    async def execute(self, client: primepods.AsyncClient) -> int:
        """Rent a pod, do the work, delete the pod, and return the command's exit code."""
        # Entered here, so that a signal cancels this task and no other, even if SIGINT is ignored.
        with primepods.exit_on_sigterm():
            # In a second task, so that the current task can report Ctrl-C before the pod is deleted.
            work = asyncio.create_task(self._rent(client))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # Once the pod is rented, `_work_and_announce_deletion` says what becomes of it.
                if self._is_renting:
                    print_info(
                        "Interrupted: deleting what was ordered, and waiting until it is confirmed gone"
                    )
                work.cancel()
                await work
                raise

    async def _rent(self, client: primepods.AsyncClient) -> int:
        """Do the work on a rented pod, and report how it ended."""
        for local, _ in self._job.uploads:
            size = measure(self._program, local, self._job.exclusion)
            self._upload_sizes[local] = size.bytes
            print_info(f"To upload: {local} ({describe(size)})")
        specs = await self._find_specs(client)
        self._started_at = time.monotonic()
        lease = client.pods.lease(specs, on_change=self._show_change, **self._job.lease)
        pod: primepods.AsyncLeasedPod | None = None
        self._is_renting = True
        try:
            async with lease as pod:
                self._is_renting = False
                code = await self._work_and_announce_deletion(pod)
        except BaseException as exc:
            # The lease says with a note, or with this error, that the pod may still be billed.
            may_be_billed = getattr(exc, "__notes__", ()) or isinstance(exc, primepods.NotReleasedError)
            if not may_be_billed:
                self._print_summary(pod, is_interrupted=not isinstance(exc, Exception))
            raise
        self._print_summary(pod)
        return code

    async def _work_and_announce_deletion(self, pod: primepods.AsyncLeasedPod) -> int:
        """Do the work; at its end, say that the lease now deletes the pod."""
        if self._job.keep:
            pod.keep()
        try:
            return await self._work(pod)
        finally:
            if not self._is_kept:
                print_info(f"Deleting the pod {pod.name}, and waiting until it is confirmed gone")

    async def _find_specs(self, client: primepods.AsyncClient) -> list[primepods.PodSpec]:
        """Return what to order, in the order of preference."""
        job = self._job
        changes = dict(job.changes)
        if job.ssh_key is not None:
            changes["ssh_key_id"] = find_key(job.ssh_key, [key async for key in client.ssh_keys.list()])
        offers = await client.availability.find(**job.find)
        if not offers:
            raise CommandError("no offer fits now: see primepods offers, or poll with --wait 2h")
        specs = primepods.PodSpec.from_offers(offers, **changes)
        first, others = offers[0], len(specs) - 1
        more = f", or the next of {others} more offers" if others else ""
        money = price(first.price_hr, first.prices.currency)
        machine = f"{first.gpu_count} x {first.gpu_type} at {first.provider}"
        print_info(f"Renting {machine} for {money} an hour{more}")
        return specs

    async def _work(self, pod: primepods.AsyncLeasedPod) -> int:
        """Upload, run the command, download; return the exit code."""
        job = self._job
        print_info(f"Logged in to {pod.name} ({pod.id}): {pod.ssh}")
        for local, remote in job.uploads:
            with progress(f"uploaded {local}", self._upload_sizes[local]) as on_progress:
                await pod.upload(local, remote, exclude=job.exclusion, on_progress=on_progress)
            print_info(f"Uploaded {local} to {remote}")
        workdir = next((remote for local, remote in job.uploads if local.is_dir()), None)
        try:
            result = await pod.run(job.command, env=job.variables, cwd=workdir, check=False, capture=False)
        except primepods.ConnectionLostError:
            # Fetch the results so far, before the pod is deleted.
            await self._download_all(pod, workdir)
            raise
        download_code = await self._download_all(pod, workdir)
        return result.exit_code or download_code

    async def _download_all(self, pod: primepods.AsyncLeasedPod, workdir: str | None) -> int:
        """Download the results; return 0, or an exit code if one cannot be downloaded."""
        code = 0
        for remote, local in self._job.downloads:
            source = remote if remote.startswith("~") else posixpath.join(workdir or "", remote)
            try:
                await self._download(pod, source, local)
            except (primepods.TransferError, primepods.ConnectionLostError, OSError) as error:
                # Fetch the others nevertheless: the pod is about to be deleted.
                print_error(self._program, error)
                code = ExitCode.FAILED
            else:
                print_info(f"Downloaded {remote} to {local}")
        if code and self._job.keep_on_failed_download and not self._is_kept:
            self._is_kept = True
            pod.keep()
            print_info(f"Keeping the pod, since a download failed: try it with primepods cp {pod.id}:PATH .")
        return code

    async def _download(self, pod: primepods.AsyncLeasedPod, source: str, local: str) -> None:
        """Download a result; retry if the connection is lost."""
        for attempts_left in reversed(range(_MAX_DOWNLOAD_ATTEMPTS)):
            try:
                with progress(f"downloaded {source}") as on_progress:
                    await pod.download(source, local, on_progress=on_progress)
            except primepods.ConnectionLostError as error:
                if not attempts_left:
                    raise
                print_error(self._program, f"{error} Trying again.")
            else:
                return

    def _show_change(self, change: primepods.PodChange) -> None:
        """Report the pod's progress, but not each percent of an installation."""
        self._was_ordered = True
        status = change.after
        stage: object = None
        if status is not None:
            stage = (change.pod_id, status.status, status.installation_status, status.is_ready)
            if stage != self._last_stage:
                print_info(str(status))
        self._last_stage = stage

    def _print_summary(self, pod: primepods.AsyncLeasedPod | None, *, is_interrupted: bool = False) -> None:
        duration = short_duration(time.monotonic() - self._started_at)
        if pod is None:
            if self._was_ordered or is_interrupted:
                print_info(f"No pod is left: what was ordered was deleted, after {duration}.")
            return
        totals = f"after {duration}, for about {price(pod.spent())}"
        if self._is_kept:
            print_info(
                f"The pod {pod.name} is still running, {totals}, and is billed: primepods ssh {pod.id}, and "
                f"then primepods delete {pod.id}"
            )
        else:
            print_info(f"The pod {pod.name} ({pod.id}) was deleted, {totals}.")
