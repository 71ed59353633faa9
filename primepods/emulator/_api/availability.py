"""The operations on what can be ordered."""

from collections.abc import Iterable

from attrs import frozen

from .._state.account import World
from .._state.catalog import Provider
from .._state.market import Market, Offer, cheapest
from .api import PREFIX
from .http import Call, Reply, choice, integer, invalid, many, scalar
from .offer_shapes import disk_row, offer_row, offers_answer, summary_answer
from .routes import Route
from .vocabulary import GPU_TYPES, REGIONS, SECURITY, SOCKETS

PAGE_SIZE = 100


class MarketApi:
    """GPUs, clusters, their summary, and disks.

    The emulator has no disks of its own: the filter by disk ids is accepted, and every disk is everywhere.
    """

    def __init__(self, world: World, market: Market) -> None:
        self._world = world
        self._market = market

    def routes(self) -> list[Route]:
        """What there is to ask."""
        base = f"{PREFIX}/availability"
        return [
            Route.of("gpus", "GET", f"{base}/gpus", self._gpus),
            Route.of("gpu_summary", "GET", f"{base}/gpu-summary", self._summary),
            Route.of("multi_node", "GET", f"{base}/multi-node", self._multi_node),
            Route.of("disks", "GET", f"{base}/disks", self._disks),
        ]

    def _gpus(self, call: Call) -> Reply:
        return self._offers(call, (offer for offer in self._market.offers if offer.nodes == 1))

    def _multi_node(self, call: Call) -> Reply:
        return self._offers(call, (offer for offer in self._market.offers if offer.nodes > 1))

    def _summary(self, call: Call) -> Reply:
        del call
        return Reply(200, summary_answer(cheapest(self._market.offers)))

    def _disks(self, call: Call) -> Reply:
        page, wanted = _page(call), _Place.of(call)
        rows = [disk_row(disk) for disk in self._market.disks if wanted.holds(disk.provider, disk.cloud_id)]
        return Reply(200, offers_answer(rows[page], len(rows)))

    def _offers(self, call: Call, offers: Iterable[Offer]) -> Reply:
        page, place, machine = _page(call), _Place.of(call), _Machine.of(call)
        many(call, "disks")
        found = [
            offer for offer in offers if place.holds(offer.provider, offer.cloud_id) and machine.is_(offer)
        ]
        now, living = self._world.settle(), self._world.living()
        rows = [offer_row(offer, self._market.left(offer, now, living)) for offer in found[page]]
        return Reply(200, offers_answer(rows, len(found)))


@frozen
class _Place:
    """Where something is to be."""

    regions: list[str]
    data_center: str | None
    cloud_id: str | None

    @classmethod
    def of(cls, call: Call) -> "_Place":
        regions = many(call, "regions")
        for region in regions:
            if region not in REGIONS:
                raise invalid(("regions", f"Input should be one of {', '.join(REGIONS)}"))
        return cls(regions, scalar(call, "data_center_id"), scalar(call, "cloud_id"))

    def holds(self, provider: Provider, cloud_id: str) -> bool:
        return (
            (not self.regions or provider.region in self.regions)
            and self.data_center in {None, provider.data_center}
            and self.cloud_id in {None, cloud_id}
        )


@frozen
class _Machine:
    """What a machine is to be."""

    count: int | None
    gpu: str | None
    socket: str | None
    security: str | None

    @classmethod
    def of(cls, call: Call) -> "_Machine":
        return cls(
            integer(call, "gpu_count", None),
            choice(call, "gpu_type", GPU_TYPES),
            choice(call, "socket", SOCKETS),
            choice(call, "security", SECURITY),
        )

    def is_(self, offer: Offer) -> bool:
        return (
            self.count in {None, offer.count}
            and self.gpu in {None, offer.gpu.name}
            and self.socket in {None, offer.gpu.socket}
            and self.security in {None, offer.provider.security}
        )


def _page(call: Call) -> slice:
    page = integer(call, "page", 1, low=1)
    size = integer(call, "page_size", PAGE_SIZE, low=1, high=PAGE_SIZE)
    return slice((page - 1) * size, page * size)
