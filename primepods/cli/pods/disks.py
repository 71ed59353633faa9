"""`primepods disks`: list, create, rename and delete disks, which outlive pods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

import primepods
from primepods._utils.money import money
from primepods._utils.text import quote

from .._shared.command import Api, YesOption, api_command, confirm
from .._shared.errors import CommandError, print_errors_and_exit_if_any
from .._shared.handles import MIN_PREFIX
from .._shared.offer_options import find_disks
from .._shared.options import option
from .._shared.output import ModelTable, Output, OutputOption, PrintOptions, print_ordered, readable_rows
from .._shared.pod_table import read_names, status_cell
from .._shared.table import Column, print_info, write_ids
from .._shared.text import count

_DISK_HELP = f"The disk: its id, a prefix of its id ({MIN_PREFIX} characters or more), or its name."


def _totals(disks: Sequence[primepods.Disk]) -> dict[str, str]:
    total = math.fsum(disk.price_hr or 0.0 for disk in disks)
    return {"id": count(disks, "disk"), "price": money(total)}


def _disk_table(names: Mapping[str, str]) -> ModelTable[primepods.Disk]:
    """Return the table of disks; ``names`` has the names of pods by id."""
    return ModelTable(
        empty_model=lambda: primepods.Disk(id=""),
        id_of=lambda disk: disk.id,
        cells={
            Column("ID"): lambda disk: disk.id,
            Column("NAME", min_width=8): lambda disk: disk.name or "",
            Column("STATUS", min_width=8): lambda disk: status_cell(disk.status),
            Column("SIZE GB", right=True, rank=1): lambda disk: "" if disk.size is None else str(disk.size),
            Column("PRICE/H", right=True): lambda disk: money(disk.price_hr),
            Column("PROVIDER", rank=2): lambda disk: disk.provider_type or "",
            Column("DATA CENTER", rank=3): lambda disk: str((disk.info or {}).get("dataCenterId") or ""),
            Column("PODS", min_width=8, rank=2): lambda disk: ", ".join(
                names.get(pod_id, pod_id) for pod_id in (*disk.pods, *disk.clusters)
            ),
        },
        totals=_totals,
    )


@api_command
def command(api: Api, *, print_options: PrintOptions) -> None:
    """List your disks and their prices per hour.

    Disks outlive pods, and are billed until they are deleted. See also `primepods disks create`, `rename` and
    `delete`.
    """
    _disk_table({}).check(print_options)
    with api.client() as client, readable_rows(client.disks.list()) as disks:
        are_named = print_options.is_table and any(disk.pods or disk.clusters for disk in disks)
        _disk_table(read_names(client) if are_named else {}).print(disks, print_options)
        if not disks and print_options.is_table:
            print_info("No disks.")


@api_command
def create(
    api: Api,
    *,
    size: Annotated[int, option("Size in GB.", "GB", min=1)],
    provider: Annotated[str | None, option("Only this provider.", "PROVIDER")] = None,
    data_center: Annotated[str | None, option("Only this data center.", "ID")] = None,
    name: Annotated[str | None, option("Name; by default a generated one.", "NAME")] = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Order a disk: the cheapest offer that fits.

    Shows the price and asks for confirmation; prints the new disk's id. The disk is billed until you delete
    it.

    Examples:
      primepods disks create --size 500 --provider hyperstack --name data
    """
    with api.client() as client:
        listed, error = client.availability.disks(data_center_id=data_center).collect()
        offers = [
            offer
            for offer in listed
            if offer.is_available and provider in (None, offer.provider) and offer.spec.allows(size)
        ]
        priced = [offer for offer in offers if offer.spec.price_per_unit is not None]
        if not priced and error is not None:
            raise error
        if not priced:
            reason = "that fits has a price" if offers else "fits"
            filters = {"at": provider, "in": data_center}
            where = "".join(f" {word} {quote(value)}" for word, value in filters.items() if value)
            others = ", ".join(sorted({f"{offer.provider} ({offer.spec})" for offer in listed}))
            hint = f"; sizes in GB: {others}" if others and not offers else ""
            raise CommandError(f"no offer of {size} GB of disk{where} {reason}{hint}")
        offer = min(priced, key=lambda offer: (offer.spec.price_hr(size), offer.provider))
        place = " in ".join(filter(None, [offer.provider, offer.data_center or offer.country]))
        # Show the name before the order, so that the user can find the disk if this process is killed.
        spec = primepods.DiskSpec.from_offer(offer, size=size, name=name).named()
        print_info(f"{size} GB of disk at {place}")
        print_info(f"Name: {spec.name}")
        print_info(f"Price per hour: {money(offer.spec.price_hr(size))}")
        confirm("Order it?", yes=yes)
        disk = client.disks.create(spec)
        print_info(f"Ordered {disk.name}.")
    print_ordered(disk, output)


@api_command
def rename(
    api: Api,
    disk: Annotated[str, typer.Argument(help=_DISK_HELP, metavar="DISK", show_default=False)],
    name: Annotated[str, typer.Argument(help="The new name.", metavar="NAME", show_default=False)],
) -> None:
    """Change the name of a disk."""
    with api.client() as client:
        [found] = find_disks(client, [disk])
        print_info(f"{found.id} is now {client.disks.rename(found, name).name}.")


@api_command
def delete(
    api: Api,
    disks: Annotated[list[str], typer.Argument(help=_DISK_HELP, metavar="DISK...", show_default=False)],
    *,
    yes: YesOption = False,
) -> None:
    """Delete disks. All data on them is lost.

    Shows the disks and asks for confirmation. A disk that a pod uses is not deleted. Prints the ids of the
    deleted disks.
    """
    with api.client() as client:
        found = find_disks(client, disks)
        _disk_table({}).print(found, PrintOptions(), err=True)
        confirm(f"Delete {count(found, 'disk')}?", yes=yes)
        errors: dict[str, Exception] = {}
        for disk in found:
            try:
                client.disks.delete(disk)
                write_ids([disk.id])
            except primepods.PrimePodsError as exc:
                errors[disk.id] = exc
    print_errors_and_exit_if_any(api.command, errors)
