"""A plan as text for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any, Final

from gateway.planning.limits import Limit, limits
from gateway.planning.plan import Plan

_NEAR: Final = 0.5
"""A limit that is used less needs no advice."""


def as_json(planned: Plan) -> dict[str, Any]:
    """The plan's figures by their names in ``plan.py``; what is endless is ``None``."""
    told = {**dataclasses.asdict(planned), "limits": list(map(dataclasses.asdict, limits(planned)))}
    return {name: _finite(value) for name, value in told.items()}


def as_text(planned: Plan) -> str:
    """The plan in lines of at most 100 characters."""
    first, *others = limits(planned)
    lines = [
        _load(planned),
        "",
        *_nodes(planned),
        *_redis(planned),
        *_network(planned),
        *_deploy(planned),
        "",
        "how much of each limit is used",
        *(f"  {each.name:<22}{_share(each.used):>10}" for each in (first, *others)),
        "",
        *_advice(first),
    ]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line))


def _advice(first: Limit) -> list[str]:
    if first.used < _NEAR:
        return [f"No limit is near. The first would be {first.name}."]
    return [f"{first.name} comes first. {first.advice}"]


def _load(planned: Plan) -> str:
    load = planned.load
    return (
        f"{load.connections:,} connections; {_number(load.publishes)} publishes a second of "
        f"{load.message_bytes:,} bytes, each to {_number(load.subscribers)}; "
        f"{_number(load.logs)} logs of {_number(load.kept_messages)} messages"
    )


def _nodes(planned: Plan) -> list[str]:
    nodes, cores = planned.nodes, planned.load.cores
    return [
        f"gateways: {_machines(nodes.machines)} of {cores} cores, {nodes.processes:,} processes",
        (
            f"  without {_machines(nodes.away)}: {_number(nodes.connections_a_process)} connections a process, "
            f"{nodes.busy:.0%} of its core"
        ),
        f"  CPU {_cores(nodes.busy_cores)} cores in all, memory {_gib(nodes.memory_gib)} a machine",
    ]


def _redis(planned: Plan) -> list[str]:
    redis, channel = planned.redis, planned.channel
    cluster = f"a cluster of {redis.primaries:,} primaries, each"
    gateways = (
        f", {_number(channel.gateways)} on the gateways" if math.isfinite(channel.gateways) else ""
    )
    return [
        f"Redis: {'1 primary' if redis.primaries == 1 else cluster} with a replica",
        f"  each {redis.busy:.0%} of a core, memory {_gib(redis.memory_gib)}, {redis.clients:,} connections",
        f"  one channel: at most {_number(channel.redis)} messages a second on its primary{gateways}",
    ]


def _network(planned: Plan) -> list[str]:
    network = planned.network
    lines = [
        "network",
        (
            f"  clients: {_rate(network.clients_out)} out, {_rate(network.clients_in)} in; "
            f"a machine {_rate(network.machine_out)} out"
        ),
        f"  a primary: {_rate(network.primary_in)} in, {_rate(network.primary_out)} out",
    ]
    if network.cluster_bus:
        lines.append(f"  the cluster's bus: {_rate(network.cluster_bus)} out of each primary")
    return lines


def _deploy(planned: Plan) -> list[str]:
    deploy = planned.deploy
    return [
        f"a deploy in {_seconds(deploy.seconds)}, {_machines(planned.nodes.away)} at a time",
        (
            f"  {_number(deploy.reconnects)} reconnects, {_number(deploy.reconnects_a_second)} a second: "
            f"{_cores(deploy.node_cores)} cores of gateways, {_cores(deploy.redis_cores)} of Redis, "
            f"{_rate(deploy.clients_in)} of handshakes"
        ),
        (
            f"  at least {_seconds(deploy.shortest_seconds)}; "
            f"if all lose their connections at once, they are back after {_seconds(deploy.everybody_seconds)}"
        ),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.2g}"


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count:,} machines"


def _cores(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def _share(value: float) -> str:
    return "no end" if math.isinf(value) else f"{value:,.0%}" if value >= 0.1 else f"{value:.1%}"


def _gib(value: float) -> str:
    return f"{value * 1024:,.0f} MiB" if value < 1 else f"{value:,.1f} GiB"


def _rate(megabits: float) -> str:
    for factor, unit in ((1e-3, "Gbit/s"), (1, "Mbit/s")):
        if megabits * factor >= 1:
            return f"{megabits * factor:,.1f} {unit}"
    return f"{megabits * 1e3:,.0f} kbit/s"


def _seconds(value: float) -> str:
    if math.isinf(value):
        return "endless time"
    if value < 1:
        return "a second"
    return f"{value:,.0f} s" if value < 600 else f"{value / 60:,.0f} min"


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, 100, subsequent_indent="  " if line.startswith(" ") else "") or [""]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return list(map(_finite, value))
    return None if isinstance(value, float) and math.isinf(value) else value
