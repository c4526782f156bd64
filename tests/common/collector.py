"""A collector of traces: takes what OTLP over HTTP sends, as its specification says, and remembers every span."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    process: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent: bytes
    links: tuple[bytes, ...]
    attributes: dict[str, Any]
    failed: bool


class Collector:
    """Listens on a free port while the block runs."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
                    self.send_error(400)
                    return
                collector.spans += _read(ExportTraceServiceRequest.FromString(body))
                said = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _read(request: ExportTraceServiceRequest) -> list[Seen]:
    found = []
    for resource in request.resource_spans:
        [process] = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
        for scope in resource.scope_spans:
            found += [
                Seen(
                    process=process,
                    name=span.name,
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    parent=span.parent_span_id,
                    links=tuple(link.span_id for link in span.links),
                    attributes={each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                    failed=span.status.code == 2,
                )
                for span in scope.spans
            ]
    return found
