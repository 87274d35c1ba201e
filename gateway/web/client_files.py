"""The JavaScript client, as every gateway serves it: ``/client.js``, and the modules below ``/client/``."""

from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.core.http import takes_gzip

FOLDER: Final = Path(__file__).parent / "static" / "client"
"""What is packed for npm, too; its built files lie as they are served."""

_NAMED: Final = "public, max-age=31536000, immutable"
_UNNAMED: Final = "public, max-age=300, stale-while-revalidate=86400"
"""A page that does not name the version gets a new one some minutes after a deploy."""
_MISNAMED: Final = "no-cache"
"""Nodes of several versions serve while one is deployed: what is not this version must not stay in a cache under its name."""
_FIELDS: Final = {
    # Pages of all origins may load it: it holds nothing that is anybody's.
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
}


def built_files() -> dict[str, Path]:
    """Each file that is served, by its path in a URL."""
    files = [FOLDER / "client.js", *sorted((FOLDER / "client").glob("*.js"))]
    return {f"/{path.relative_to(FOLDER).as_posix()}": path for path in files}


def version(content: bytes) -> str:
    """What ``?v=`` names a file by."""
    return hashlib.sha256(content).hexdigest()[:12]


def integrity(content: bytes) -> str:
    """What a page may demand of a file (Subresource Integrity)."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


def add_client(app: web.Application, base: str) -> None:
    """Serve it below ``base``."""
    for path, handler in _HANDLERS.items():
        app.router.add_get(base + path, handler)


def _served(content: bytes) -> Handler:
    """Answers from memory; what is the same for all is made once."""
    named = version(content)
    compressor = zlib.compressobj(9, wbits=31)
    compressed = compressor.compress(content) + compressor.flush()
    # Weak, since it is that of both encodings (RFC 9110, section 8.8.3.3).
    tag = f'W/"{named}"'

    async def handler(request: web.Request) -> web.Response:
        wanted = request.query.get("v")
        caching = _UNNAMED if wanted is None else _NAMED if wanted == named else _MISNAMED
        fields = {**_FIELDS, hdrs.CACHE_CONTROL: caching, hdrs.ETAG: tag}
        if any(each.value in {named, "*"} for each in request.if_none_match or ()):
            return web.Response(status=304, headers=fields)
        zipped = takes_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())))
        if zipped:
            fields[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(
            body=compressed if zipped else content,
            headers=fields,
            content_type="text/javascript",
            charset="utf-8",
        )

    return handler


# Read with the module, since nothing may block the event loop.
_HANDLERS: Final = {path: _served(file.read_bytes()) for path, file in built_files().items()}
