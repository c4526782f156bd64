"""Traces (OpenTelemetry): what became of one request, across groups, events and processes. Off unless `configure` is called.

Trace and parent are made of the request id, which travels with everything already: in events, tasks and logs. So no
message and no table carries more than before, and each process decides alike which share of requests is traced.
While traces are off nothing of OpenTelemetry is loaded.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from threading import local
from typing import TYPE_CHECKING, Any

from libs.common import context
from libs.common.messages import Message

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider
    from opentelemetry.trace import SpanContext

REQUEST_ID = "hallpass.request_id"
Note = Callable[[str, Any], None]  # adds an attribute to a span that has begun
_provider: "TracerProvider | None" = None
_share = 0.0
_planned = local()  # the ids of the next span of this thread


def configure(process: str, endpoint: str, *, share: float) -> None:
    """Send spans of this share of requests to a collector (OTLP over HTTP); an empty endpoint leaves traces off."""
    global _provider, _share  # one for the process, as the libraries have it
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _planned.__dict__.pop("trace", None) or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return _planned.__dict__.pop("span", None) or super().generate_span_id()

    resource = Resource.create({"service.name": f"hallpass-{process}"})
    _provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=Ids())
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    _share = share


def is_on() -> bool:
    return _provider is not None


def close() -> None:
    """Send what waits and turn traces off."""
    global _provider  # as above
    if _provider is not None:
        _provider.shutdown()
    _provider = None


# --- spans ---


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Note]:
    """Show the enclosed work as a part of the request at hand; nothing while traces are off, or of no request.

    What is known only when it is done can be noted by what this yields.
    """
    request_id = context.request_id()
    if _provider is None or not request_id or not _is_traced(request_id):
        yield _note_nothing
        return
    begun = _start(name, request_id, parent=_parent_here(request_id), attributes=attributes)
    with _current(begun):
        yield begun.set_attribute


@contextmanager
def span_of_all(name: str, request_ids: Iterable[str], **attributes: Any) -> Iterator[None]:
    """Show the enclosed work, done once for many requests: a part of the first, with links to them all."""
    traced = [each for each in request_ids if each and _is_traced(each)] if _provider is not None else []
    if not traced:
        yield
        return
    parent, links = _of_request(traced[0]), [_of_request(each) for each in traced]
    with _current(_start(name, traced[0], parent=parent, attributes=attributes, links=links)):
        yield


def begin_request(request_id: str, name: str, traceparent: bytes | None) -> "Span | None":
    """Begin the span that all others of the request belong to, None where it is not traced; `end_request` ends it.

    A caller's own trace becomes a link: whom we don't know does not decide what belongs together here.
    """
    if not _is_traced(request_id):
        return None
    _planned.trace, _planned.span = _trace_id(request_id), _span_id(request_id, "request")
    caller = _callers(traceparent) if traceparent else None
    return _start(name, request_id, parent=None, attributes={}, links=[caller] if caller else [], kind="SERVER")


def end_request(begun: "Span", name: str, status: int) -> None:
    begun.update_name(name)
    begun.set_attribute("http.response.status_code", status)
    _mark(begun, failed=status >= 500)
    begun.end()


def published(messages: Sequence[Message], *, since_ns: int) -> None:
    """Show that messages were handed to the bus since then."""
    for message in messages:
        if message.request_id and _is_traced(message.request_id):
            _planned.span = _span_id(message.request_id, message.id)
            parent = _of_request(message.request_id)
            name, about = f"publish {message.type}", _about(message)
            _start(name, message.request_id, parent=parent, attributes=about, kind="PRODUCER", at=since_ns).end()


def consumed(consumer: str, messages: Sequence[Message], *, since_ns: int, failed: bool = False) -> None:
    """Show that a consumer has carried messages out together since then, or failed at them."""
    for message in messages:
        if message.request_id and _is_traced(message.request_id):
            parent = _context(message.request_id, _span_id(message.request_id, message.id))
            about = _about(message) | {"messaging.consumer.group.name": consumer, "hallpass.together": len(messages)}
            name = f"consume {message.type}"
            done = _start(name, message.request_id, parent=parent, attributes=about, kind="CONSUMER", at=since_ns)
            _mark(done, failed=failed)
            done.end()


def now_ns() -> int:
    """Return the present instant for `published` and `consumed`."""
    return time.time_ns()


# --- helpers ---


def _note_nothing(name: str, value: Any) -> None:
    """There is no span to note it on."""


def _is_traced(request_id: str) -> bool:
    return (_trace_id(request_id) >> 64) < _share * 2**64


def _trace_id(request_id: str) -> int:
    return int.from_bytes(blake2b(request_id.encode(), digest_size=16).digest()) or 1


def _span_id(request_id: str, what: str) -> int:
    return int.from_bytes(blake2b(f"{request_id} {what}".encode(), digest_size=8).digest()) or 1


def _of_request(request_id: str) -> "SpanContext":
    return _context(request_id, _span_id(request_id, "request"))


def _context(request_id: str, span_id: int) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(_trace_id(request_id), span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _parent_here(request_id: str) -> "SpanContext":
    from opentelemetry.trace import get_current_span

    here = get_current_span().get_span_context()
    return here if here.trace_id == _trace_id(request_id) else _of_request(request_id)


def _start(
    name: str,
    request_id: str,
    *,
    parent: "SpanContext | None",
    attributes: dict[str, Any],
    links: Sequence["SpanContext"] = (),
    kind: str = "INTERNAL",
    at: int | None = None,
) -> "Span":
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, set_span_in_context

    assert _provider is not None  # noqa: S101  # asked by every caller
    started: Any = _provider.get_tracer("hallpass").start_span(
        name,
        Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context()),
        kind=SpanKind[kind],
        attributes={REQUEST_ID: request_id, **attributes},
        links=[Link(each) for each in links],
        start_time=at,
    )
    return started  # type: ignore[no-any-return]  # the API's type hides the SDK's


@contextmanager
def _current(begun: "Span") -> Iterator[None]:
    from opentelemetry.trace import use_span

    with use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException:
            _mark(begun, failed=True)  # not what it says: an error's text may hold answers
            raise


def _mark(begun: "Span", *, failed: bool) -> None:
    from opentelemetry.trace import Status, StatusCode

    if failed:
        begun.set_status(Status(StatusCode.ERROR))


def _about(message: Message) -> dict[str, Any]:
    return {"messaging.message.id": message.id, "hallpass.event": message.type, "hallpass.subject": message.subject}


def _callers(traceparent: bytes) -> "SpanContext | None":
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    said = {"traceparent": traceparent.decode("latin-1")}
    found = get_current_span(TraceContextTextMapPropagator().extract(said)).get_span_context()
    return found if found.is_valid else None
