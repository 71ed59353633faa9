"""`primepods create`: show the price, ask for confirmation, and order a pod."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Annotated

import attrs
import typer

import primepods

from ._account import check_own_permission, find_disks
from ._command import Api, api_command
from ._confirm import YesOption, confirm
from ._create_questions import ask, can_ask
from ._durations import parse_hours
from ._errors import CommandError, ExitCode
from ._offers import (
    OfferFilters,
    OrderOptions,
    announce_wait,
    find_key,
    offer_id,
    pod_option,
    without_unset,
)
from ._output import Output, OutputOption, print_model
from ._pod_table import price
from ._table import print_info, write_ids

_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")

_OFFER_HELP = "The offer to order, by its ID in `primepods offers`"
OfferId = Annotated[str | None, typer.Option("--id", help=f"{_OFFER_HELP}.", metavar="ID")]
OfferArgument = Annotated[
    str | None, typer.Argument(metavar="[OFFER]", help=f"{_OFFER_HELP}; the same as --id.")
]
Name = Annotated[str | None, pod_option("Name of the pod; by default a generated one.", "NAME")]
Vcpus = Annotated[int | None, pod_option("Virtual CPUs.", "NUMBER", min=1)]
Memory = Annotated[int | None, pod_option("GB of RAM.", "GB", min=1)]
Env = Annotated[
    list[str] | None, pod_option("Environment variable of the pod; may be repeated.", "KEY=VALUE")
]
EnvFile = Annotated[
    typer.FileText | None, pod_option("File with a line KEY=VALUE for each variable.", "FILE")
]
MaxHours = Annotated[
    float | None,
    pod_option(
        "Time, such as 2h or 90m, until the pod expires; `primepods sweep --expired` deletes expired pods.",
        "TIME",
        parser=parse_hours,
    ),
]


@api_command
def command(
    api: Api,
    offer: OfferArgument = None,
    *,
    by_id: OfferId = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    name: Name = None,
    vcpus: Vcpus = None,
    memory: Memory = None,
    env: Env = None,
    env_file: EnvFile = None,
    max_hours: MaxHours = None,
    order: OrderOptions,
    filters: OfferFilters,
) -> None:
    """Order a pod: an offer by its ID, or the cheapest that fits the filters.

    One GPU by default. In a terminal, without an ID, filters or --yes, asks what to order. Shows the price
    and asks for confirmation. Prints the new pod's id at once; `primepods wait ID` waits until the pod is
    ready. The pod is billed until it is deleted. If the price rises before the order, nothing is ordered.

    Examples:
      primepods create --gpu-type H100 --gpu-count 8
      primepods create 4c19379d --name train --env-file secrets.env
    """
    if offer is not None and by_id is not None:
        raise CommandError("name the offer once: as an argument or with --id", ExitCode.USAGE)
    wanted_id = offer or by_id
    variables = read_env(env or [], env_file)
    given = {"name": name, "vcpus": vcpus, "memory": memory, "env_vars": variables or None}
    changes = without_unset(given) | order.given()
    with api.client() as client:
        check_own_permission(client, "instances")
        if order.disks:
            changes["disks"] = [disk.id for disk in find_disks(client, order.disks)]
        if wanted_id is None and not filters.given() and not yes and can_ask():
            chosen, answers, hours = ask(client, api.command, changes.get("disks"))
            changes = answers | changes
            max_hours = hours if max_hours is None else max_hours
        else:
            chosen = _choose(client, wanted_id, filters, changes.get("disks"))
        if order.ssh_key is not None:
            changes["ssh_key_id"] = find_key(order.ssh_key, client.ssh_keys.list())
        # Show the name before the order, so that the user can find the pod if this process is killed.
        spec = primepods.PodSpec.from_offer(chosen, **changes)
        spec = spec if max_hours is not None else spec.named()
        # `from_offer` has set `max_price` to the price of the offer with the ordered disk, vCPUs and memory.
        limit = filters.max_price
        if limit is not None and spec.max_price is not None and spec.max_price > limit:
            costs = price(spec.max_price, chosen.prices.currency)
            raise CommandError(f"the pod would cost {costs} an hour, which is more than --max-price")
        shown_name = spec.name if max_hours is None else f"{spec.name or 'primepods'}-… (with a suffix)"
        _print_order(chosen, spec, shown_name)
        if name is not None:
            _warn_of_same_named_pods(client, name)
        confirm("Order it?", yes=yes)
        pod = client.pods.create(spec, max_hours=max_hours)
        # Elsewhere, the id goes to stderr, too: the caller may fail to write it to stdout.
        print_info(f"Ordered {pod.name}." if sys.stdout.isatty() else f"Ordered {pod.name}: {pod.id}")
    if output is Output.TABLE:
        write_ids([pod.id])
    else:
        print_model(pod, output)


def _warn_of_same_named_pods(client: primepods.Client, name: str) -> None:
    ids = [pod.id for pod in client.pods.list(name=name).collect()[0] if pod.name == name]
    if ids:
        print_info(f"Pods with the name {name!r} exist already: {', '.join(ids)}. Use the new pod's id.")


def _choose(
    client: primepods.Client, wanted_id: str | None, filters: OfferFilters, disks: list[str] | None
) -> primepods.Offer:
    """Return the offer with the given ID, or the cheapest that fits the filters."""
    if wanted_id is None:
        if filters.gpu_type is None:
            text = "nothing to order: give the ID of an offer (see `primepods offers`) or --gpu-type"
            raise CommandError(text, ExitCode.USAGE)
        announce_wait(filters.wait)
        return client.availability.cheapest(**filters.given(), disks=disks)
    # --max-price may be combined with --id: `command` checks it.
    if attrs.evolve(filters, max_price=None).given():
        text = "the ID names the offer: leave out the filters, except --max-price"
        raise CommandError(text, ExitCode.USAGE)
    return _find_offer(client, wanted_id)


def _find_offer(client: primepods.Client, wanted_id: str) -> primepods.Offer:
    """Return the offer with this id if it can be rented; search both lists, even if rows are unreadable."""
    errors: list[primepods.PrimePodsError] = []
    for pager in (client.availability.gpus(), client.availability.multi_node()):
        offers, error = pager.collect()
        for offer in offers:
            if offer_id(offer) == wanted_id and offer.is_available and offer.price_hr is not None:
                return offer
        if error is not None:
            errors.append(error)
    if errors:
        raise errors[0]
    raise CommandError(f"no offer {wanted_id} can be rented now: see `primepods offers`")


def _print_order(offer: primepods.Offer, spec: primepods.PodSpec, name: str | None) -> None:
    spot_note = " (spot: the provider may terminate it)" if offer.is_spot else ""
    where = offer.country or offer.region or "an unknown place"
    machine = f"{spec.gpu_count} x {spec.gpu_type} at {spec.provider} in {where}{spot_note}"
    amounts = {"GB of disk": spec.disk_size, "vCPUs": spec.vcpus, "GB of RAM": spec.memory}
    parts = [f"{amount} {unit}" for unit, amount in amounts.items() if amount is not None]
    print_info(f"Offer {offer_id(offer)}: {machine}")
    print_info(", ".join([spec.image or "The default image", *parts]))
    print_info(f"Name: {name}")
    print_info(f"Price per hour: {price(spec.max_price, offer.prices.currency)}")
    if offer.prepaid_time:
        print_info(f"Charged in advance, used or not: {offer.prepaid_time:g} hours")


def read_env(given: Iterable[str], file: Iterable[str] | None) -> dict[str, str]:
    """Return the environment variables; those of the command line replace those of the file."""
    file_lines = [line for line in (file or ()) if line.strip() and not line.lstrip().startswith("#")]
    variables: dict[str, str] = {}
    for line in [*file_lines, *given]:
        entry = _ENV_LINE.fullmatch(line.rstrip("\r\n"))
        if entry is None:
            # Do not show the line: it may hold a secret.
            problem = "an environment variable must be KEY=VALUE, with letters, digits and _ in KEY"
            raise CommandError(problem, ExitCode.USAGE)
        variables[entry[1]] = entry[2]
    return variables
