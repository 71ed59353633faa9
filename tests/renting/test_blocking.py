"""Renting with the blocking client."""

from __future__ import annotations

import primepods
from primepods import Client, PodSpec
from primepods.emulator import Emulator

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZv0pP7rY1J1mGm3vJ0v0Jx1Jx1Jx1Jx1Jx1Jx1Jx1J"


def test_a_thread_that_blocks_rents_too() -> None:
    """Offers, the cheapest of lazily named regions, a key, a pod that it opens."""
    with (
        Emulator(boot_seconds=0) as emulator,
        Client(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        offers = [*client.availability.gpus(page_size=50), *client.availability.multi_node()]
        # A lazy iterable may call the client, in the caller's thread.
        regions = (offer.region or "" for offer in client.availability.gpus(cloud_id=offers[0].cloud_id))
        offer = client.availability.cheapest(regions=regions)
        assert offer.price_hr == min(
            other.price_hr or 0
            for other in offers
            if other.region == offers[0].region and other.gpu_count == 1
            if not other.is_spot and other.gpu_type != "CPU_NODE"
        )
        key = client.ssh_keys.add("laptop", KEY)
        client.ssh_keys.set_primary(key.id)
        pod = client.pods.create(PodSpec.from_offer(offer, ssh_key_id=key.id))
        assert client.pods.get(pod.id).name == pod.name
        client.ssh_keys.delete(key.id)
        assert list(client.ssh_keys.list()) == []
        assert next(iter(client.availability.disks())).is_available
        assert isinstance(pod, primepods.Pod)
