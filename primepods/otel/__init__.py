"""OpenTelemetry for a client: ``primepods.AsyncClient(on_event=OpenTelemetryEvents())``.

It records metrics, a span for each operation, such as ``pods.wait``, and a child span for each attempt at a
request. Names follow the semantic conventions where these exist. Needs the extra ``otel``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from .._version import __version__
from ..events import (
    DeletionEnded,
    Event,
    LeaseKept,
    LeaseReady,
    LeaseReleased,
    LeaseStarted,
    OperationEnded,
    OperationStarted,
    PollingPaused,
    ReleaseFailed,
    RequestEnded,
    RetryScheduled,
    WaitEnded,
    WaitStarted,
)

__all__ = ["OpenTelemetryEvents"]

_DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket boundaries of the semantic conventions, in seconds."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MIN_ERROR_STATUS: Final = 400


def trace_headers() -> dict[str, str]:
    """Return the headers that propagate the current trace, such as ``traceparent``; empty without a trace."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


class OpenTelemetryEvents:
    """Callback for ``on_event`` that records OpenTelemetry spans and metrics. Clients can share it.

    Args:
        tracer_provider: Provider of the tracer; by default the global provider.
        meter_provider: Provider of the meter; by default the global provider.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer("primepods", __version__, tracer_provider)
        self._metrics = _Metrics(meter_provider)
        self._spans: dict[int, Span] = {}

    def __call__(self, event: Event) -> None:
        """Record one event."""
        # OperationStarted and OperationEnded have one number in `operations`.
        match event:
            case OperationStarted():
                self._start(event)
            case OperationEnded(operations=(number,)):
                self._end(number, event.error)
            case RequestEnded():
                self._add_attempt(event)
            case _:
                self._annotate(event)
        self._metrics.record(event)

    def _start(self, event: OperationStarted) -> None:
        parent = None if event.parent is None else self._spans.get(event.parent)
        context = None if parent is None else set_span_in_context(parent)
        [number] = event.operations
        self._spans[number] = self._tracer.start_span(event.name, context)

    def _end(self, number: int, error: str | None) -> None:
        span = self._spans.pop(number, None)
        if span is None:
            return
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()

    def _add_attempt(self, event: RequestEnded) -> None:
        """Add the span of an attempt, as a child of its first operation, with links to the others."""
        ended_at = time.time_ns()
        parents = [self._spans[number] for number in event.operations if number in self._spans]
        attributes = _attributes(event)
        if event.resend_count:
            attributes["http.request.resend_count"] = event.resend_count
        span = self._tracer.start_span(
            event.method if event.route is None else f"{event.method} {event.route}",
            set_span_in_context(parents[0]) if parents else None,
            SpanKind.CLIENT,
            attributes,
            links=[Link(parent.get_span_context()) for parent in parents[1:]],
            start_time=ended_at - int(event.seconds * 1e9),
        )
        if "error.type" in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(ended_at)

    def _annotate(self, event: Event) -> None:
        """Add an event to the spans of its operations."""
        fields = {name: value for name, value in event.to_dict().items() if name != "operations"}
        attributes = {f"primepods.{name}": value for name, value in fields.items() if value is not None}
        for number in event.operations:
            span = self._spans.get(number)
            if span is not None:
                span.add_event(type(event).__name__, attributes)


class _Metrics:
    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter("primepods", __version__, provider)
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of attempts at requests.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._retries = meter.create_counter("primepods.retries", "{retry}", "Attempts that were repeated.")
        self._pauses = meter.create_counter(
            "primepods.rate_limit.pauses", "{pause}", "Pauses that the API asked for (429)."
        )
        self._watched = meter.create_up_down_counter(
            "primepods.pods.watched", "{pod}", "Pods of all waits and watches."
        )
        self._leased = meter.create_up_down_counter("primepods.pods.leased", "{pod}", "Leased pods.")
        self._price = meter.create_up_down_counter(
            "primepods.pods.leased.price", "{currency}/h", "Price per hour of all leased pods."
        )
        self._failed = meter.create_counter(
            "primepods.releases.failed", "{pod}", "Leased pods that may be running and billed."
        )
        self._deletions = meter.create_counter("primepods.deletions", "{pod}", "Deletions of pods.")
        self._leased_prices: dict[str, float] = {}

    def record(self, event: Event) -> None:
        match event:
            case RequestEnded():
                self._duration.record(event.seconds, _attributes(event))
            case RetryScheduled(status=status):
                attributes: dict[str, AttributeValue] = {"http.request.method": event.method}
                if status is not None:
                    attributes["http.response.status_code"] = status
                self._retries.add(1, attributes)
                if status == HTTPStatus.TOO_MANY_REQUESTS:
                    self._pauses.add(1)
            case PollingPaused():
                self._pauses.add(1)
            case WaitStarted(pods=pods):
                self._watched.add(pods)
            case WaitEnded(pods=pods):
                self._watched.add(-pods)
            case DeletionEnded(state=state, error=error):
                self._deletions.add(1, {"error.type": error} if error else {"primepods.state": state or ""})
            case _:
                self._record_lease(event)

    def _record_lease(self, event: Event) -> None:
        match event:
            case LeaseStarted(name=name, price_hr=price_hr) | LeaseReady(name=name, price_hr=price_hr):
                if name not in self._leased_prices:
                    self._leased.add(1)
                self._price.add(price_hr - self._leased_prices.get(name, 0.0))
                self._leased_prices[name] = price_hr
            case LeaseReleased(name=name) | LeaseKept(name=name) | ReleaseFailed(name=name):
                if isinstance(event, ReleaseFailed):
                    self._failed.add(1)
                # Without a successful order, the lease was not counted.
                if name in self._leased_prices:
                    self._leased.add(-1)
                    self._price.add(-self._leased_prices.pop(name))
            case _:
                pass


def _attributes(event: RequestEnded) -> dict[str, AttributeValue]:
    """Return an attempt's attributes, without the URL, which can contain a hundred ids."""
    parts = urlsplit(event.base_url)
    error = event.error
    if error is None and event.status is not None and event.status >= _MIN_ERROR_STATUS:
        error = str(event.status)
    attributes: Mapping[str, AttributeValue | None] = {
        "http.request.method": event.method,
        "http.response.status_code": event.status,
        "url.template": event.route,
        "server.address": parts.hostname,
        "server.port": parts.port or _DEFAULT_PORTS.get(parts.scheme),
        "error.type": error,
    }
    return {name: value for name, value in attributes.items() if value is not None}
