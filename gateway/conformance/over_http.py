"""What a client without a WebSocket does: requests, event streams (WHATWG HTML §9.2), and polls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from gateway.conformance.opening import SECONDS, Address, Answer, joined
from gateway.conformance.receiving import Receiving
from gateway.conformance.verdicts import Failed

Query = Sequence[tuple[str, str]]

GATHERED: Final = "does a proxy gather answers until they end? docs/proxies.md: proxy_buffering off in nginx, no cache and no compression on this path"
_LARGEST_EVENT_BYTES: Final = 32 * 2**20


class Http:
    """Requests to a deployment. Nothing is kept of one for the next, and nothing is compressed unless that is asked for."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=SECONDS),
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers={"User-Agent", "Content-Type"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Let go of all answers that have not ended."""
        await self._session.close()

    async def begin(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = SECONDS,
    ) -> aiohttp.ClientResponse:
        """Ask, and read the head of the answer; whoever calls this closes it.

        Raises:
            Failed: there is no answer within so many seconds.
        """
        address = self._address
        base = URL.build(
            scheme="https" if address.tls else "http",
            authority=address.authority,
            path=address.base + path,
            query_string=address.query,
        )
        asking = self._session.request(
            method,
            base.update_query([*base.query.items(), *query]),
            headers=headers,
            data=body,
            ssl=address.tls or False,
            allow_redirects=False,
        )
        try:
            return await asyncio.wait_for(asking, seconds)
        except TimeoutError:
            raise Failed(
                f"{method} {path} is not answered within {seconds:g} s: {GATHERED}"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise Failed(f"no connection: {error}") from None
        except aiohttp.ClientError as error:
            raise Failed(
                f"{method} {path} has no answer in HTTP ({str(error) or type(error).__name__}): does a proxy cut it?"
            ) from None

    async def ask(self, method: str, path: str, **asked: Any) -> Answer:
        """Ask, and read the whole answer; see :meth:`begin`, and :func:`whole`."""
        return await whole(await self.begin(method, path, **asked))


async def whole(answer: aiohttp.ClientResponse) -> Answer:
    """Read what is behind the head of an answer.

    Raises:
        Failed: it is cut, or does not end.
    """
    asked = f"{answer.method} {answer.url.path}"
    try:
        body = await asyncio.wait_for(answer.read(), SECONDS)
    except TimeoutError:
        raise Failed(f"the answer to {asked} does not end") from None
    except aiohttp.ClientError:
        raise Failed(f"the answer to {asked} is cut: by a proxy?") from None
    finally:
        answer.close()
    return Answer(answer.status, joined(answer.headers.items()), body)


class EventStream(Receiving[str]):
    """An event stream from the head of its answer on.

    Attributes:
        fields: of the answer, in lower case.
        name: by which it is reached, once it is told.
        last_id: with which an ``EventSource`` would come back.
        named: the events that had an ``id:``, each with its message.
        retries: milliseconds, as they were told.
        comments: when each came, in seconds of a monotonic clock.
        broken: what no stream of this protocol has.
    """

    def __init__(self, answer: aiohttp.ClientResponse, patience: float) -> None:
        super().__init__(patience)
        self.fields = joined(answer.headers.items())
        self.name = ""
        self.last_id = ""
        self.named: list[tuple[str, dict[str, Any]]] = []
        self.retries: list[int] = []
        self.comments: list[float] = []
        self.broken: list[str] = []
        self._answer = answer
        self._reading = asyncio.create_task(self._read())

    async def drop(self) -> None:
        """Let go of it."""
        self._reading.cancel()
        self._answer.close()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        pending = b""
        try:
            async for part in self._answer.content.iter_any():
                *blocks, pending = (pending + part).replace(b"\r\n", b"\n").split(b"\n\n")
                for block in blocks:
                    self._take(block.decode())
                if len(pending) > _LARGEST_EVENT_BYTES:
                    raise ValueError("an event of more than 32 MiB came")  # noqa: TRY301 - as the others
        except (ValueError, aiohttp.ClientError) as error:
            self.broken.append(str(error))
        self.ended.set_result("cut" if pending else "the answer is whole")

    def _take(self, block: str) -> None:
        """A block of fields (§9.2.6)."""
        data: list[str] = []
        id_ = ""
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "":
                self.comments.append(time.monotonic())
            elif name == "data":
                data.append(value)
            elif name == "id":
                id_ = self.last_id = value
            elif name == "retry":
                self.retries.append(int(value))
            else:
                self.broken.append(f"an event has the field {name!r}")
        if not data:
            return
        message = orjson.loads("\n".join(data))
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ValueError("an event came that is no object with a type")  # noqa: TRY004 - what came is wrong, not a call
        if id_:
            self.named.append((id_, message))
        if message["type"] == "connected":
            self.name = str(message.get("stream", ""))
        self.put(message)
