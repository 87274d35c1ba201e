"""Which scenarios make which results, and in which order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from tests.bench import encodings, fanout
from tests.bench.cluster import on_a_cluster
from tests.bench.crowd import crowd
from tests.bench.failed_peers import FailedPeers
from tests.bench.http_api import http_api
from tests.bench.many_connections import many_connections
from tests.bench.many_logs import many_logs
from tests.bench.one_to_one import one_to_one, workers
from tests.bench.peers.all import PEERS
from tests.bench.publishing import publishing
from tests.bench.scale import Scale
from tests.bench.servers import Server, floor_server, gateway_server
from tests.bench.storm import storm

Result = dict[str, Any]
Tell = Callable[[str], None]

_SINGLE: Final = {
    "one-to-one": one_to_one,
    "storm": storm,
    "publish": publishing,
    "compression": encodings.compression,
    "batch": encodings.batching,
    "workers": workers,
    "scale": many_connections,
    "logs": many_logs,
    "cluster": on_a_cluster,
    "api": http_api,
}
_FAN_OUT: Final = ("fanout", "burst")
_CROWD: Final = ("memory", "idle")

PARTS: Final = (*_FAN_OUT, *_SINGLE, *_CROWD)
"""The names for ``--only``."""


async def run(only: Sequence[str], scale: Scale, *, peers: bool, tell: Tell) -> Result:
    """Measure the parts named in ``only``; ``tell`` hears what is going on."""
    results: Result = {}
    if kinds := [kind for kind in _FAN_OUT if kind in only]:
        tell(" and ".join(kinds))
        failed = FailedPeers(tell)
        async with _servers(peers=peers, tell=tell, failed=failed) as servers:
            results |= await fanout.measure(servers, scale, kinds, failed)
        if failed.reasons:
            results["without"] = failed.reasons
    for name, scenario in _SINGLE.items():
        if name in only:
            tell(name)
            results[name] = await scenario(scale)
    if kinds := [kind for kind in _CROWD if kind in only]:
        tell(" and ".join(kinds))
        results |= await crowd(scale, kinds)
    return results


@contextlib.asynccontextmanager
async def _servers(*, peers: bool, tell: Tell, failed: FailedPeers) -> AsyncIterator[list[Server]]:
    async with contextlib.AsyncExitStack() as stack:
        servers: list[Server] = [await stack.enter_async_context(gateway_server())]
        floor = await stack.enter_async_context(floor_server())
        if floor is None:
            tell("no C compiler: no floor, and a slower receiver")
        else:
            servers.append(floor)
        for name, peer in PEERS.items() if peers else ():
            if (started := await failed.enter(stack, name, peer())) is not None:
                servers.append(started)
        yield servers
