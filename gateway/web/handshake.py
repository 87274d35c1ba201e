"""How a handshake is answered when it is not let in, and what is agreed on when it is."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from gateway.core.closing import Closing
from gateway.web.auth import SUBPROTOCOL

_NO_CLOSE_FRAME: Final = 1006  # never on the wire (RFC 6455 §7.4.1)
_COUNTED_CODES: Final = {1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011}

VERSION: Final = "13"  # RFC 6455 §4.1
_LINGER_SECONDS: Final = 1.0
"""How long a client that was told why it is not let in may take to close."""


async def reject(request: web.Request, reason: Closing, error: bytes) -> web.StreamResponse:
    """Upgrade all the same: only then can a browser see the ``error`` and the close code."""
    response = web.WebSocketResponse(
        protocols=(SUBPROTOCOL,), compress=False, timeout=_LINGER_SECONDS
    )
    await response.prepare(request)
    try:
        await response.send_str(error.decode())
        await response.close(code=reason.code, message=reason.reason.encode(), drain=False)
    except ConnectionError:
        pass  # the client did not wait for the reason
    return response


def close_label(code: int | None) -> str:
    """A client's close code as a metric's label: it may send any, and each would be a time series.

    ``None`` stands for none: 1006, as a browser tells it (RFC 6455 §7.1.5).
    """
    code = _NO_CLOSE_FRAME if code is None else code
    return str(code) if code in _COUNTED_CODES else "other"


async def negotiate_compression(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Tell the client that no message rests on another, so that it need not keep a window for us
    (RFC 7692 §7.1.1.1: a server may say so unasked).
    """
    extensions = response.headers.get(hdrs.SEC_WEBSOCKET_EXTENSIONS)
    if extensions and "server_no_context_takeover" not in extensions:
        response.headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = (
            f"{extensions}; server_no_context_takeover"
        )


def refusal(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """An answer in HTTP, before any upgrade; the connection is not kept for another request."""
    response = web.json_response(
        {"error": {"code": code, "message": message}}, status=status, headers=headers
    )
    response.force_close()
    return response
