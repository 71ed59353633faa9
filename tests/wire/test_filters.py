"""Filters of `list` and `history`, which the API does not have: each page is filtered as it comes."""

from datetime import timedelta
from typing import Any

import pytest

from primepods import Client, PodState, ProtocolError
from primepods.emulator import Edit, Emulator
from tests.support.client import make_client

PODS: list[dict[str, Any]] = [
    {"id": "a", "name": "train-1", "gpu_name": "H100_80GB"},
    {"id": "b", "name": "train-2", "gpu_name": "RTX4090_24GB"},
    {"id": "c", "name": "other", "gpu_name": "H100_80GB"},
    {"id": "d", "name": "train[1]", "gpu_name": "A100_80GB"},
]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"name": "train-*"}, "ab"),
        ({"name": ["other", "train-2"]}, "bc"),
        ({"name": "train[1]"}, "d"),
        ({"name": "train"}, ""),
        ({"name": "train[?]"}, "d"),
        ({"name": "train-[12]"}, ""),
        ({"gpu_type": "h100"}, "ac"),
        ({"gpu_type": ["rtx 4090", "A*"]}, "bd"),
        ({"status": "active"}, "abcd"),
        ({"status": ["ERROR", PodState("HIBERNATING")]}, ""),
        ({"name": "train-*", "gpu_type": "H100", "status": PodState.ACTIVE}, "a"),
    ],
)
async def test_pods_are_filtered(filters: dict[str, Any], ids: str) -> None:
    """By state, by exact name or pattern, and by GPU as people write it; any of several will do."""
    with Emulator(boot_seconds=0) as emulator:
        for pod in PODS:
            emulator.add_pod(**pod)
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            pager = client.pods.list(page_size=1, **filters)
            assert sorted([pod.id async for pod in pager]) == list(ids)
            pages = [page async for page in pager.pages()]
    assert all(len(page) for page in pages)


async def test_a_filter_hides_no_trouble() -> None:
    """A row that cannot be read might have fitted: the error comes after those that do."""
    with Emulator(boot_seconds=0) as emulator:
        for pod in PODS:
            emulator.add_pod(**pod)
        emulator.faults.add(Edit(put={"data.0.priceHr": "?"}), on="list")
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            items, error = await client.pods.list(name="nobody").collect()
    assert items == []
    assert isinstance(error, ProtocolError)


def test_history_is_filtered() -> None:
    """By when it ended (from `since` on, before `until`), and by kind in any case."""
    with Emulator(history=60) as emulator, Client(api_key=emulator.api_key, base_url=emulator.url) as client:
        records = list(client.pods.history())
        ends = sorted(record.terminated_at or record.created_at for record in records)
        since, until = ends[10], ends[40]
        found = list(client.pods.history(since=since, until=until))
        assert len(found) == sum(since <= end < until for end in ends) > 0
        kinds = {record.type for record in records}
        for kind in kinds:
            found = list(client.pods.history(kind=[kind.upper()], page_size=7))
            assert [record.id for record in found] == [r.id for r in records if r.type == kind]
        assert list(client.pods.history(since=ends[-1] + timedelta(days=1))) == []
