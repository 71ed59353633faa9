"""`primepods create`: show the price, ask for confirmation, and order a pod."""

from __future__ import annotations

import sys
from typing import Annotated

import attrs
import typer

import primepods
from primepods._utils.money import money

from .._shared.command import Api, YesOption, api_command, confirm
from .._shared.durations import parse_hours
from .._shared.errors import CommandError, ExitCode
from .._shared.login_options import Env, EnvFile, read_variables
from .._shared.offer_options import (
    OfferFilters,
    OrderOptions,
    announce_wait,
    find_disks,
    find_key,
    machine,
    offer_id,
    without_unset,
)
from .._shared.options import pod_option
from .._shared.output import Output, OutputOption, print_ordered
from .._shared.table import print_info


@api_command
def command(
    api: Api,
    offer: Annotated[
        str | None,
        typer.Argument(metavar="[OFFER]", help="The offer to order, by its ID in `primepods offers`."),
    ] = None,
    *,
    filters: OfferFilters,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    name: Annotated[str | None, pod_option("Name of the pod; by default a generated one.", "NAME")] = None,
    vcpus: Annotated[int | None, pod_option("Virtual CPUs.", "NUMBER", min=1)] = None,
    memory: Annotated[int | None, pod_option("GB of RAM.", "GB", min=1)] = None,
    env: Env = None,
    env_file: EnvFile = None,
    max_hours: Annotated[
        float | None,
        pod_option(
            "Time, such as 2h or 90m, until the pod expires; `primepods sweep --expired` deletes expired "
            "pods.",
            "TIME",
            parser=parse_hours,
        ),
    ] = None,
    order: OrderOptions,
) -> None:
    """Order a pod: an offer by its ID, or the cheapest that fits the filters (by default with one GPU).

    Shows the price and asks for confirmation. Prints the new pod's id at once; `primepods wait ID` waits
    until the pod is ready. The pod is billed until it is deleted. If the price rises before the order,
    nothing is ordered.

    Examples:
      primepods create --gpu-type H100 --gpu-count 8
      primepods create 4c19379d --name train --env-file secrets.env
    """
    if max_hours is not None and not max_hours > 0:
        raise CommandError("--max-hours must be above 0", ExitCode.USAGE)
    variables = read_variables(env, env_file)
    given = {"name": name, "vcpus": vcpus, "memory": memory, "env_vars": variables or None}
    changes = without_unset(given) | order.given()
    with api.client() as client:
        if order.disks:
            changes["disks"] = [disk.id for disk in find_disks(client, order.disks)]
        chosen = _choose(client, offer, filters, changes.get("disks"))
        if order.ssh_key is not None:
            changes["ssh_key_id"] = find_key(order.ssh_key, client.ssh_keys.list())
        # Show the name before the order, so that the user can find the pod if this process is killed.
        spec = primepods.PodSpec.from_offer(chosen, **changes)
        spec = spec if max_hours is not None else spec.named()
        # `from_offer` has set `max_price` to the price of the offer with the ordered disk, vCPUs and memory.
        limit = filters.max_price
        if limit is not None and spec.max_price is not None and spec.max_price > limit:
            costs = money(spec.max_price, chosen.prices.currency)
            raise CommandError(f"the pod would cost {costs} an hour, which is more than --max-price")
        shown_name = spec.name if max_hours is None else f"{spec.name or 'primepods'}-… (with a suffix)"
        _print_order(chosen, spec, shown_name)
        same = [] if name is None else client.pods.list(name=name).collect()[0]
        if ids := [pod.id for pod in same if pod.name == name]:
            print_info(f"Pods with the name {name!r} exist already: {', '.join(ids)}. Use the new pod's id.")
        confirm("Order it?", yes=yes)
        pod = client.pods.create(spec, max_hours=max_hours)
        # If stdout is not a terminal, print the id to stderr, too, since writing to stdout may fail.
        print_info(f"Ordered {pod.name}." if sys.stdout.isatty() else f"Ordered {pod.name}: {pod.id}")
    print_ordered(pod, output)


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
    # --max-price may be combined with the ID: `command` checks it.
    if attrs.evolve(filters, max_price=None).given():
        text = "the ID names the offer: leave out the filters, except --max-price"
        raise CommandError(text, ExitCode.USAGE)
    return _find_offer(client, wanted_id)


def _find_offer(client: primepods.Client, wanted_id: str) -> primepods.Offer:
    """Return the offer with this id if it can be rented. An unreadable row does not hide the others."""
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
    place = f"at {spec.provider} in {where}{spot_note}"
    amounts = {"GB of disk": spec.disk_size, "vCPUs": spec.vcpus, "GB of RAM": spec.memory}
    parts = [f"{amount} {unit}" for unit, amount in amounts.items() if amount is not None]
    print_info(f"Offer {offer_id(offer)}: {machine(offer)} {place}")
    print_info(", ".join([spec.image or "The default image", *parts]))
    print_info(f"Name: {name}")
    print_info(f"Price per hour: {money(spec.max_price, offer.prices.currency)}")
    if offer.prepaid_time:
        print_info(f"Charged in advance, used or not: {offer.prepaid_time:g} hours")
