"""As much of S3 as a store speaks (REST API of 2006-03-01), over a folder in memory: objects, uploads in parts, lists."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

STAMP = "2026-01-01T00:00:00.000Z"
STAMP_IN_HEADERS = "Thu, 01 Jan 2026 00:00:00 GMT"


class Bucket:
    """What one bucket holds. An upload in parts is no object before it is completed."""

    def __init__(self) -> None:
        self.address = ""
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.part_sizes: list[int] = []
        self.is_away = False  # then it answers 503, as S3 does when it asks to be left alone

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients of S3 find it."""
        return {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "any",
            "AWS_ENDPOINT": self.address,
            "AWS_ALLOW_HTTP": "true",
        }


@contextmanager
def a_bucket() -> Iterator[Bucket]:
    """Serve a bucket of any name while the block runs."""
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if bucket.is_away:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(503, b"<Error><Code>SlowDown</Code><Message>please wait</Message></Error>")
            return not bucket.is_away

        def _asked(self) -> tuple[str, dict[str, str], bytes]:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return unquote(url.path).removeprefix("/").partition("/")[2], query, body

        def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _missing(self, key: str) -> None:
            error = f"<Error><Code>NoSuchKey</Code><Message>no such key</Message><Key>{escape(key)}</Key></Error>"
            self._answer(404, error.encode())

        def do_PUT(self) -> None:
            key, query, body = self._asked()
            if "uploadId" in query:
                bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
                bucket.part_sizes.append(len(body))
            else:
                bucket.objects[key] = body
            self._answer(200, ETag=_etag(body))

        def do_POST(self) -> None:
            key, query, body = self._asked()
            if "uploads" in query:
                upload = f"upload-{len(bucket.uploads)}"
                bucket.uploads[upload] = {}
                made = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                self._answer(200, made.encode())
                return
            if "delete" in query:
                gone = [unescape(found) for found in re.findall(r"<Key>(.*?)</Key>", body.decode())]
                for each in gone:
                    bucket.objects.pop(each, None)
                deleted = "".join(f"<Deleted><Key>{escape(each)}</Key></Deleted>" for each in gone)
                self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
                return
            parts = bucket.uploads.pop(query["uploadId"])
            bucket.objects[key] = b"".join(parts[number] for number in sorted(parts))
            done = f"<CompleteMultipartUploadResult><ETag>{_etag(bucket.objects[key])}</ETag></CompleteMultipartUploadResult>"
            self._answer(200, done.encode())

        def do_GET(self) -> None:
            key, query, _ = self._asked()
            if "list-type" in query:
                self._answer(200, _listed(bucket, query.get("prefix", "")))
            elif key not in bucket.objects:
                self._missing(key)
            else:
                content = bucket.objects[key]
                self._answer(200, content, ETag=_etag(content), Last_Modified=STAMP_IN_HEADERS)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    bucket.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


def _etag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


def _listed(bucket: Bucket, prefix: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{STAMP}</LastModified>"
        f"<ETag>{escape(_etag(content))}</ETag><Size>{len(content)}</Size></Contents>"
        for key, content in sorted(bucket.objects.items())
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
