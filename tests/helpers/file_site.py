"""A file server on this machine that can cut, lie, refuse and ignore ranges; for tests."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace


class Handler(BaseHTTPRequestHandler):
    """Serves `site.files`; what goes wrong is in `site`. HTTP/1.0: one request a connection."""

    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802
        site = self.server.site
        site.asked.append((self.path, self.headers.get("Range")))
        if site.states:
            return self.send_error(site.states.pop(0))
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            return self.end_headers()
        if self.path not in site.files:
            return self.send_error(404)
        body = site.files[self.path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) + site.shift if asked and site.ranges else 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for header in site.headers.items():
            self.send_header(*header)
        if site.lengths:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts else None
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may have had enough
            self.wfile.write(body[start:] if cut is None else body[start : start + cut])


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[SimpleNamespace]:
    """Serve `files`, by path, for as long as the block lasts; `asked` is what was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = SimpleNamespace(
        files=dict(files),
        asked=[],
        states=[],  # answered, one a request, before anything else
        cuts=[],  # bytes after which an answer ends, one a request
        redirects={},
        headers={},
        ranges=True,
        shift=0,  # bytes that an answer begins beside where it was asked to
        lengths=True,
        url=f"http://127.0.0.1:{server.server_port}",
        waited=[],
    )
    server.site = found
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
