"""Spans and metrics, as the SDK's exporters in memory get them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import primepods
from primepods import PodSpec, RetryPolicy
from primepods.emulator import Emulator, Reset, Status
from primepods.otel import OpenTelemetryEvents
from tests.support.client import make_client, serve
from tests.support.server import reply


def id_of(context: trace.SpanContext | None) -> int | None:
    """A span's id."""
    return None if context is None else context.span_id


@attrs.frozen
class Telemetry:
    """The function for `on_event`, and what was recorded."""

    on_event: OpenTelemetryEvents
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracers: TracerProvider

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, by their names."""
        return [span for span in self.exporter.get_finished_spans() if name in {"", span.name}]

    def children(self, parent: ReadableSpan) -> list[str]:
        """The names of a span's children."""
        return [span.name for span in self.spans() if id_of(span.parent) == id_of(parent.context)]

    def metric(self, name: str) -> dict[str, Any]:
        """The values of a metric, by their attributes; of a histogram the counts."""
        data: Any = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        [metric] = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return {
            " ".join(f"{value}" for _, value in sorted(point.attributes.items())): getattr(
                point, "count", None
            )
            or point.value
            for point in metric.data.data_points
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Providers of a test's own."""
    exporter, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    on_event = OpenTelemetryEvents(tracer_provider=tracers, meter_provider=meters)
    yield Telemetry(on_event, exporter, reader, tracers)
    tracers.shutdown()
    meters.shutdown()


async def test_the_trace_goes_on_at_the_server(telemetry: Telemetry) -> None:
    """A request within a span has its `traceparent`, and one outside has none."""
    tracer = telemetry.tracers.get_tracer("the user's")
    async with serve([reply([]), reply([])]) as (server, client):
        await client.request("GET", "/api/v1/x")
        with tracer.start_as_current_span("work") as span:
            await client.request("GET", "/api/v1/x")
    outside, inside = (request.headers.get("traceparent") for request in server.requests)
    assert outside is None
    assert f"{span.get_span_context().trace_id:032x}" in str(inside)


async def test_a_lease_with_a_lost_response_and_a_retry(telemetry: Telemetry) -> None:
    """Its span has all that was done for it as children; nothing recorded holds the key."""
    async with Emulator(pods=0, boot_seconds=0, delete_seconds=0) as emu:
        emu.faults.add(Reset(acted=True), on="create", times=1)
        emu.faults.add(Status(503), on="delete", times=1)
        async with make_client(
            emu.url, api_key=emu.api_key, retry=RetryPolicy(base_delay=0), on_event=telemetry.on_event
        ) as client:
            offer = await client.availability.cheapest(gpu_type="H100")
            async with client.pods.lease(PodSpec.from_offer(offer), interval=0.05) as pod:
                assert telemetry.metric("primepods.pods.leased") == {"": 1}
                assert telemetry.metric("primepods.pods.leased.price") == {"": pod.price_hr}
    [lease] = telemetry.spans("pods.lease")
    assert lease.parent is None
    assert [event.name for event in lease.events] == ["LeaseStarted", "LeaseReady", "LeaseReleased"]
    children = telemetry.children(lease)
    assert children[:2] == ["POST /api/v1/pods/", "pods.list"]
    assert {"pods.wait", "pods.delete"} <= set(children)
    [lost] = telemetry.spans("POST /api/v1/pods/")
    assert (lost.attributes or {})["error.type"] == "transport"
    assert lost.status.status_code is trace.StatusCode.ERROR
    [first, again] = telemetry.spans("DELETE /api/v1/pods/{id}")
    [delete] = telemetry.spans("pods.delete")
    assert id_of(first.parent) == id_of(again.parent) == id_of(delete.context)
    port = int(emu.url.rpartition(":")[2])
    common = {
        "http.request.method": "DELETE",
        "url.template": "/api/v1/pods/{id}",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert dict(first.attributes or {}) == {**common, "http.response.status_code": 503, "error.type": "503"}
    assert dict(again.attributes or {}) == {
        **common,
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }
    assert first.kind is trace.SpanKind.CLIENT
    roots = {span.name for span in telemetry.spans() if span.parent is None}
    assert roots == {"availability.cheapest", "pods.lease"}
    assert telemetry.metric("primepods.retries") == {"DELETE 503": 1}
    assert telemetry.metric("primepods.pods.leased") == {"": 0}
    assert telemetry.metric("primepods.pods.watched") == {"": 0}
    durations = telemetry.metric("http.client.request.duration")
    assert durations[f"503 DELETE 503 127.0.0.1 {port} /api/v1/pods/{{id}}"] == 1
    data = telemetry.reader.get_metrics_data()
    recorded = "".join(span.to_json() for span in telemetry.spans()) + (data.to_json() if data else "")
    assert json.dumps(emu.api_key)[1:-1] not in recorded


async def test_a_poll_is_linked_to_the_waits_that_share_it(telemetry: Telemetry) -> None:
    """It is a child of one, in whose trace it is, and linked to the others: no poll is a root."""
    async with Emulator(pods=3, boot_seconds=0.2) as emu:
        client = make_client(emu.url, api_key=emu.api_key, on_event=telemetry.on_event)
        with telemetry.tracers.get_tracer("test").start_as_current_span("mine"):
            async with client:
                ids = [pod.id async for pod in client.pods.list()]
                waits = [client.pods.wait([pod_id], until=primepods.settled, interval=0.05) for pod_id in ids]
                await asyncio.gather(*waits)
    waited = telemetry.spans("pods.wait")
    [mine] = telemetry.spans("mine")
    assert {id_of(span.parent) for span in waited} == {id_of(mine.context)}
    polls = telemetry.spans("GET /api/v1/pods/status")
    assert polls
    served = [{id_of(poll.parent), *(id_of(link.context) for link in poll.links)} for poll in polls]
    ids_of_waits = {id_of(span.context) for span in waited}
    assert served[0] == ids_of_waits
    assert all(each <= ids_of_waits for each in served)


def test_what_fails_is_marked(telemetry: Telemetry) -> None:
    """The blocking client, too: a wait that times out, a 429, and a release that is given up."""
    retry = RetryPolicy(base_delay=0, attempts=2)
    with (
        Emulator(pods=1, boot_seconds=99) as emu,
        primepods.Client(emu.api_key, base_url=emu.url, retry=retry, on_event=telemetry.on_event) as client,
    ):
        emu.faults.add(Status(429, retry_after=0), on="get", times=1)
        [pod] = client.pods.list()
        client.pods.get(pod)
        with pytest.raises(primepods.WaitTimeoutError):
            client.pods.wait([pod], timeout=0.1, interval=0.05)
        with pytest.raises(primepods.NotFoundError):
            client.pods.delete("nonesuch")
        emu.faults.add(Status(503), on="delete")
        offer = client.availability.cheapest(gpu_type="H100")
        with (
            pytest.raises(primepods.PrimePodsError),
            client.pods.lease(PodSpec.from_offer(offer), ready_timeout=0.1, release_timeout=0.1),
        ):
            pass
    [wait, *_] = telemetry.spans("pods.wait")
    assert (wait.attributes or {})["error.type"] == "WaitTimeoutError"
    assert wait.status.status_code is trace.StatusCode.ERROR
    assert telemetry.metric("primepods.rate_limit.pauses") == {"": 1}
    assert telemetry.metric("primepods.deletions")["NotFoundError"] == 1
    assert telemetry.metric("primepods.releases.failed") == {"": 1}
    assert telemetry.metric("primepods.pods.leased") == {"": 0}
