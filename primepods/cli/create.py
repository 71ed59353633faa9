"""`primepods create`: order a pod, after the price was shown and agreed to."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import attrs
import typer

import primepods

from ._asking import YesOption, confirm
from ._command import Api, api_command
from ._completion import complete_images, complete_ssh_keys
from ._errors import CommandError, ExitCode
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
    announce_wait,
    offer_id,
)
from ._output import Output, OutputOption, print_model
from ._pod_table import price
from ._table import tell, write_ids

_PANEL = "The pod"
_ENTRY = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def _option(text: str, metavar: str, **more: Any) -> Any:
    return typer.Option(help=text, metavar=metavar, rich_help_panel=_PANEL, **more)


OfferId = Annotated[
    str | None,
    typer.Option("--id", help="The offer to order, by its ID in `primepods offers`.", metavar="ID"),
]
Name = Annotated[str | None, _option("Its name; by default a new one.", "NAME")]
Image = Annotated[
    str | None, _option("Image, as ubuntu_22_cuda_12.", "IMAGE", autocompletion=complete_images)
]
TemplateId = Annotated[str | None, _option("Your own template.", "ID")]
DiskSize = Annotated[int | None, _option("GB of disk.", "GB", min=1)]
Vcpus = Annotated[int | None, _option("Virtual CPUs.", "NUMBER", min=1)]
Memory = Annotated[int | None, _option("GB of RAM.", "GB", min=1)]
Env = Annotated[list[str] | None, _option("Environment variable of the pod; may be repeated.", "KEY=VALUE")]
EnvFile = Annotated[
    typer.FileText | None, _option("File with a line KEY=VALUE for each variable: for secrets.", "FILE")
]
SshKey = Annotated[
    str | None,
    _option(
        "Id or name of the SSH key to let in; by default your primary one.",
        "KEY",
        autocompletion=complete_ssh_keys,
    ),
]
Disks = Annotated[list[str] | None, _option("Id of a disk to attach; may be repeated.", "ID")]


@api_command
def command(
    api: Api,
    *,
    offer: OfferId = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    name: Name = None,
    image: Image = None,
    custom_template_id: TemplateId = None,
    disk_size: DiskSize = None,
    vcpus: Vcpus = None,
    memory: Memory = None,
    env: Env = None,
    env_file: EnvFile = None,
    ssh_key: SshKey = None,
    disks: Disks = None,
    gpu_type: GpuType = None,
    gpu_count: GpuCount = None,
    regions: Regions = None,
    socket: Socket = None,
    security: Security = None,
    provider: Provider = None,
    exclude_providers: ExcludeProviders = None,
    spot: Spot = False,
    max_price: MaxPrice = None,
    wait: Wait = None,
) -> None:
    """Order a pod: an offer by its --id, or the cheapest that fits the filters.

    One GPU unless you say --gpu-count. Shows what it costs and asks. Prints the new pod's id at once:
    `primepods wait ID` tells when it is ready. It is billed until you delete it. If the price has risen
    meanwhile, nothing is ordered.

    Examples:
      primepods create --gpu-type H100 --gpu-count 8
      primepods create --id 4c19379d --name train --env-file secrets.env
    """
    filters: dict[str, Any] = {
        "gpu_type": gpu_type,
        "gpu_count": gpu_count,
        "regions": regions or None,
        "socket": socket,
        "security": security,
        "provider": provider,
        "exclude_providers": exclude_providers or None,
        "spot": spot or None,
        "wait": wait,
    }
    filters = {name: value for name, value in filters.items() if value is not None}
    changes: dict[str, Any] = {
        "name": name,
        "image": image,
        "custom_template_id": custom_template_id,
        "disk_size": disk_size,
        "vcpus": vcpus,
        "memory": memory,
        "env_vars": read_env(env or [], env_file),
        "disks": disks or None,
    }
    pod = _order(api, _Wanted(offer, max_price, filters), changes, ssh_key, yes=yes)
    if output is Output.TABLE:
        write_ids([pod.id])
    else:
        print_model(pod, output)


@attrs.frozen
class _Wanted:
    """Which offer to order.

    Attributes:
        offer_id: As ``primepods offers`` shows it; ``None`` for the cheapest that fits.
        max_price: The highest price per hour.
        filters: The other parameters of ``availability.cheapest``, where they were given.
    """

    offer_id: str | None
    max_price: float | None
    filters: dict[str, Any]


def _order(
    api: Api, wanted: _Wanted, changes: dict[str, Any], ssh_key: str | None, *, yes: bool
) -> primepods.Pod:
    """Order what is wanted, once that is agreed to."""
    with api.client() as client:
        offer = _choose(client, wanted)
        if ssh_key is not None:
            changes["ssh_key_id"] = find_key(ssh_key, client.ssh_keys.list())
        given = {field: value for field, value in changes.items() if value is not None}
        # Named here, so that the name is shown before the order: a pod is found by it if this is killed.
        spec = primepods.PodSpec.from_offer(offer, **given).named()
        _show(offer, spec, wanted.max_price)
        confirm("Order it?", yes=yes)
        pod = client.pods.create(spec)
        # Before the data, whose reader may have left; on a terminal the data is seen anyway.
        tell(f"Ordered {pod.name}." if sys.stdout.isatty() else f"Ordered {pod.name}: {pod.id}")
        return pod


def _choose(client: primepods.Client, wanted: _Wanted) -> primepods.Offer:
    """Return the offer of an id, or the cheapest that fits."""
    if wanted.offer_id is None:
        if "gpu_type" not in wanted.filters:
            text = "say what to order: --id ID (see primepods offers), or --gpu-type"
            raise CommandError(text, ExitCode.USAGE)
        announce_wait(wanted.filters.get("wait"))
        return client.availability.cheapest(max_price=wanted.max_price, **wanted.filters)
    if wanted.filters:
        raise CommandError("--id says which offer: leave out the filters", ExitCode.USAGE)
    return _find_offer(client, wanted.offer_id)


def _find_offer(client: primepods.Client, wanted: str) -> primepods.Offer:
    """Return the offer of an id."""
    errors: list[primepods.PrimePodsError] = []
    for pager in (client.availability.gpus(), client.availability.multi_node()):
        offers, error = pager.collect()
        for offer in offers:
            if offer_id(offer) == wanted and offer.is_available and offer.price_hr is not None:
                return offer
        errors += [error] if error is not None else []
    for error in errors:
        raise error
    raise CommandError(f"no offer {wanted} can be rented now: see primepods offers")


def _show(offer: primepods.Offer, spec: primepods.PodSpec, max_price: float | None) -> None:
    """Say on stderr what will be ordered, and what it costs; refuse what costs more than was wanted."""
    asked = offer.price_hr if spec.max_price is None else spec.max_price
    if max_price is not None and (asked or 0) > max_price:
        costs = price(asked, offer.prices.currency)
        raise CommandError(f"with these amounts it costs {costs} an hour: more than --max-price")
    kind = " (spot: the provider may take it away)" if offer.is_spot else ""
    where = offer.country or offer.region or "an unknown place"
    machine = f"{spec.gpu_count} x {spec.gpu_type} at {spec.provider} in {where}{kind}"
    amounts = {"GB of disk": spec.disk_size, "vCPUs": spec.vcpus, "GB of RAM": spec.memory}
    parts = [f"{amount} {unit}" for unit, amount in amounts.items() if amount is not None]
    tell(f"Offer {offer_id(offer)}: {machine}")
    tell(", ".join([spec.image or "The default image", *parts]))
    tell(f"Name: {spec.name}")
    tell(f"Price per hour: {price(asked, offer.prices.currency)}")
    if offer.prepaid_time:
        tell(f"Charged at once, used or not: {offer.prepaid_time:g} hours")


def read_env(given: Iterable[str], file: Iterable[str] | None) -> dict[str, str]:
    """Return the variables; those of the command line replace those of the file."""
    lines = [line for line in (file or ()) if line.strip() and not line.lstrip().startswith("#")]
    variables: dict[str, str] = {}
    for line in [*lines, *given]:
        entry = _ENTRY.fullmatch(line.rstrip("\r\n"))
        if entry is None:
            # Not the line: it may hold a secret.
            raise CommandError("an environment variable must be of the form KEY=VALUE", ExitCode.USAGE)
        variables[entry[1]] = entry[2]
    return variables


def find_key(wanted: str, keys: Iterable[primepods.SSHKey]) -> str:
    """Return the id of an SSH key, given its id or its name."""
    keys = [key for key in keys if wanted in (key.id, key.name)]
    if len(keys) != 1:
        reason = "several SSH keys are called so: give the id" if keys else "there is no such SSH key"
        raise CommandError(f"--ssh-key {wanted}: {reason}", ExitCode.USAGE)
    return keys[0].id
