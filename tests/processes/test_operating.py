"""``gateway top`` and ``gateway drain``: all nodes as an operator sees them, and the end of one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.operating.nodes_table import as_json, as_text
from publisher import Node
from publisher.contract.node_report import NodeReport
from tests.processes.test_serve import run
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.waiting import until


async def test_a_node_that_is_shown_can_be_drained_and_the_other_stays(
    gateway_url: str, prefix: str
) -> None:
    async def gateway(*arguments: str) -> tuple[int, str, str]:
        return await run(*arguments, GATEWAY_REDIS_URL=gateway_url, GATEWAY_REDIS_PREFIX=prefix)

    async def shown() -> list[dict[str, Any]]:
        code, out, err = await gateway("top", "--json")
        assert (code, err) == (0, "")
        nodes = json.loads(out)["nodes"]
        return nodes if all(node["report"] for node in nodes) else []

    async with (
        gateway_process(gateway_url, prefix) as leaving,
        gateway_process(gateway_url, prefix) as staying,
        connected(leaving.url, make_token("u")) as sent_away,
        connected(staying.url, make_token("v")) as kept,
    ):
        names = [node["name"] for node in await until(shown, 20)]
        assert len(names) == 2
        (name,) = [each for each in names if f"node={each} " in leaving.output]
        assert (await gateway("drain", name))[:2] == (0, f"{name} has been told to drain\n")
        assert await sent_away.expect_close() == (1001, "draining")
        assert await asyncio.wait_for(leaving.process.wait(), 10) == 0
        await kept.sync()
        # Its lease went with it.
        code, out, err = await gateway("drain", name)
        assert (code, out) == (1, "")
        assert err == f"gateway: there is no living node {name!r}\n"


REPORT = NodeReport("0.2.0", 0, True, False, 1_200, 20_000, 9, 7, 10.4, 2_000, 1, 0.012)
NODES = [Node("a", REPORT), Node("new", None)]


def test_nodes_are_shown_in_columns() -> None:
    head, first, second = as_text(NODES).splitlines()
    assert head.startswith("NODE  VERSION  ")
    assert [cell.strip() for cell in first.split("  ") if cell] == [
        *("a", "0.2.0", "ready", "1,200 of 20,000", "7", "10", "2,000", "12", "up")
    ]
    assert second.split() == ["new", *"--------"]


def test_the_snapshot_has_sums_of_those_that_have_said_something() -> None:
    told = as_json([*NODES, Node("b", REPORT)])
    assert [node["name"] for node in told["nodes"]] == ["a", "new", "b"]
    assert told["nodes"][1]["report"] is None
    assert (told["connections"], told["delivered_per_second"]) == (2_400, 4_000)
