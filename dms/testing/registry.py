"""A registry of container images for tests: serves one image over plain HTTP, as much as pulling by digest needs. Python's own library, nothing else.

Run as `python registry.py ARCHIVE FILE SPOIL PORT`: ARCHIVE is the image's only layer, an uncompressed tar file; the image's digest goes to FILE once
it listens at PORT of loopback. SPOIL: "" for an honest one; "slow" for one whose layer never comes to its end; "lying" for one whose layer is not
what its digest says.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import sys
import threading
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    """As registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image_of(layer: bytes) -> dict[str, bytes]:
    """Everything the registry has, by digest; the manifest is the last."""
    packed = gzip.compress(layer, 1, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Volumes": {"/data": {}}},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(blob),
            "digest": digest(blob),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(packed),
                "digest": digest(packed),
            }
        ],
    }
    top = json.dumps(manifest).encode()
    return {digest(packed): packed, digest(blob): blob, digest(top): top}


def handler_of(  # noqa: C901 - a class within, of small methods
    content: dict[str, bytes], spoil: str
) -> type[http.server.BaseHTTPRequestHandler]:
    """Answers GET and HEAD for manifests and blobs by digest, and for the tag `latest`."""
    layer, *_, top = content

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def _answer(self, *, with_body: bool) -> None:
            if self.path.rstrip("/") == "/v2":
                self._send(200, b"{}", "application/json", with_body=with_body)
                return
            name = self.path.rpartition("/")[2]
            wanted = top if name == "latest" else name
            data = content.get(wanted)
            if data is None:
                self._send(
                    404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', "application/json"
                )
                return
            if wanted == layer and spoil == "lying":
                data = data[:-1] + bytes([data[-1] ^ 1])
            kind = MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            self._send(200, data, kind, wanted, with_body=with_body, stop=wanted == layer and spoil == "slow")

        def _send(
            self, status: int, data: bytes, kind: str, of: str = "", *, with_body: bool = True, stop: bool = False
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Distribution-API-Version", "registry/2.0")
            if of:
                self.send_header("Docker-Content-Digest", of)
            self.end_headers()
            if with_body:
                self.wfile.write(data[: len(data) // 2] if stop else data)
                if stop:
                    threading.Event().wait()

    return Handler


if __name__ == "__main__":
    image = image_of(Path(sys.argv[1]).read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[4])), handler_of(image, sys.argv[3]))
    fresh = Path(sys.argv[2]).with_suffix(".new")
    fresh.write_text(list(image)[-1])
    fresh.replace(sys.argv[2])
    server.serve_forever()
