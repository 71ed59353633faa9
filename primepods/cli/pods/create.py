"""`primepods create`: show the price, ask for confirmation, and order a pod."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any

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
    check_own_permission,
    find_disks,
    find_key,
    machine,
    offer_id,
    pod_option,
    without_unset,
)
from .._shared.output import Output, OutputOption, print_ordered
from .._shared.table import print_info

_MAX_OFFERS = 10
"""Max number of offers to choose from."""

_OFFER_HELP = "The offer to order, by its ID in `primepods offers`"


@api_command
def command(
    api: Api,
    offer: Annotated[
        str | None, typer.Argument(metavar="[OFFER]", help=f"{_OFFER_HELP}; the same as --id.")
    ] = None,
    *,
    filters: OfferFilters,
    by_id: Annotated[str | None, typer.Option("--id", help=f"{_OFFER_HELP}.", metavar="ID")] = None,
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

    In a terminal, without an ID, filters or --yes, asks what to order. Shows the price and asks for
    confirmation. Prints the new pod's id at once; `primepods wait ID` waits until the pod is ready. The pod
    is billed until it is deleted. If the price rises before the order, nothing is ordered.

    Examples:
      primepods create --gpu-type H100 --gpu-count 8
      primepods create 4c19379d --name train --env-file secrets.env
    """
    if offer is not None and by_id is not None:
        raise CommandError("name the offer once: as an argument or with --id", ExitCode.USAGE)
    if max_hours is not None and not max_hours > 0:
        raise CommandError("--max-hours must be above 0", ExitCode.USAGE)
    wanted_id = offer or by_id
    variables = read_variables(env, env_file)
    given = {"name": name, "vcpus": vcpus, "memory": memory, "env_vars": variables or None}
    changes = without_unset(given) | order.given()
    with api.client() as client:
        check_own_permission(client, "instances")
        if order.disks:
            changes["disks"] = [disk.id for disk in find_disks(client, order.disks)]
        if (
            wanted_id is None
            and not filters.given()
            and not yes
            and sys.stdin.isatty()
            and sys.stderr.isatty()
        ):
            chosen, answers, hours = _ask(client, api.command, changes.get("disks"))
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


def _ask(
    client: primepods.Client, program: str, disks: list[str] | None
) -> tuple[primepods.Offer, dict[str, Any], float | None]:
    """Ask for GPU, number of GPUs, offer, disk size, image and expiry; print a command with the answers.

    Returns:
        The offer, the chosen fields of the order, and the hours until the pod expires (``None`` for never).

    Raises:
        CommandError: No offer fits, an answer is invalid, or stdin has ended.
    """
    from rich.console import Console
    from rich.prompt import IntPrompt, Prompt

    console = Console(stderr=True, highlight=False)

    def answer(question: str, default: str, choices: list[str] | None = None) -> str:
        return Prompt.ask(question, console=console, default=default, choices=choices, show_choices=False)

    try:
        gpu_type = answer("GPU, such as H100; * for any", "*")
        gpu_count = IntPrompt.ask("Number of GPUs", console=console, default=1)
        offers = client.availability.find(
            gpu_type=gpu_type, gpu_count=gpu_count, disks=disks, limit=_MAX_OFFERS
        )
        if not offers:
            wanted = f"{gpu_count} x {'any GPU' if gpu_type == '*' else gpu_type}"
            raise CommandError(f"no machine with {wanted} can be rented now: see `primepods offers`")
        numbers = [str(number) for number in range(1, len(offers) + 1)]
        for number, offer in zip(numbers, offers, strict=True):
            print_info(f"{number}: {offer}")
        offer = offers[int(answer("Offer", "1", numbers)) - 1]
        words = [offer_id(offer)]
        changes: dict[str, Any] = {}
        if (default := offer.disk.default_count) is not None:
            changes["disk_size"] = IntPrompt.ask("GB of disk", console=console, default=default)
            words += [] if changes["disk_size"] == default else ["--disk-size", str(changes["disk_size"])]
        if offer.images:
            print_info(f"Images: {', '.join(offer.images)}")
            changes["image"] = answer("Image", offer.images[0], list(offer.images))
            words += ["--image", changes["image"]]
        expiry = answer("Time until the pod expires, such as 2h (0 for never)", "0").strip()
        max_hours = None if expiry == "0" else parse_hours(expiry)
        words += [] if max_hours is None else ["--max-hours", expiry]
    except EOFError:
        raise CommandError("nothing was done") from None
    except typer.BadParameter as exc:
        raise CommandError(exc.message, ExitCode.USAGE) from None
    print_info(f"Without questions: {program} {shlex.join(words)}")
    return offer, changes, max_hours


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
