"""A file server on this machine that can cut, lie, refuse and ignore ranges; for tests."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """files and redirects: by path. asked: the paths and ranges of all requests so far."""

    files: dict[str, bytes]
    url: str
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    states: list[int] = field(default_factory=list)  # answered, one a request, before anything else
    cuts: list[int] = field(default_factory=list)  # bytes after which an answer ends, one a request
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    shift: int = 0  # bytes that an answer begins beside where it was asked to
    lengths: bool = True
    waited: list[float] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):  # HTTP/1.0: one request a connection
    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802
        site = self.server.site
        site.asked.append((self.path, self.headers.get("Range")))
        if site.states:
            return self.send_error(site.states.pop(0))
        if self.path in site.redirects:
            return self.begin(302, {"Location": site.redirects[self.path]})
        if self.path not in site.files:
            return self.send_error(404)
        body = site.files[self.path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) + site.shift if asked and site.ranges else 0
        if start >= len(body):
            return self.send_error(416)
        headers = {"Content-Length": str(len(body) - start)} if site.lengths else {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.begin(206 if start else 200, headers | site.headers)
        end = start + site.cuts.pop(0) if site.cuts else None
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may have had enough
            self.wfile.write(body[start:end])

    def begin(self, status, headers):
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Site]:
    """Serve `files` for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(dict(files), f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()
