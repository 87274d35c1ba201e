"""The results as tables in Markdown: what was measured, beside what issue and documentation ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; ``good`` is whether the goal is reached, ``None`` without one."""

    item: str
    what: str
    figure: str
    goal: str = ""
    good: bool | None = None


def rows(results: Result) -> Iterator[Row]:
    """All lines for the items that were measured."""
    for name, of_item in _ITEMS.items():
        if name in results:
            yield from of_item(results)


def table(results: Result) -> str:
    """What the gateway costs."""
    marks = {True: "yes", False: "**no**", None: ""}
    return _markdown(
        ("", "measured", "", "goal", "reached"),
        [
            (each.item, each.what, each.figure, each.goal, marks[each.good])
            for each in rows(results)
        ],
    )


def comparison(results: Result) -> str:
    """The gateway beside the floor and the peers, and why some are missing; empty without a fan-out."""
    paced, burst = results.get("fanout", {}), results.get("burst", {})
    memory = results.get("fan-out memory", {})
    names = sorted(paced or burst, key=lambda name: _cost(paced or burst, name))
    lines = [
        (
            name,
            f"{_cost(paced, name):.2f}" if name in paced else "",
            f"{_cost(burst, name):.2f}" if name in burst else "",
            _memory_of(memory, name),
        )
        for name in names
    ]
    head = ("server", "paced, µs/delivery", "burst, µs/delivery", "memory, KiB/socket")
    without = "".join(f"\nNot measured: {name} ({why})" for name, why in _without(results).items())
    return _markdown(head, lines) + (without and f"\n{without}") if lines else ""


def _without(results: Result) -> dict[str, str]:
    reasons: dict[str, str] = results.get("without", {})
    return reasons


def _memory_of(memory: dict[str, float], name: str) -> str:
    # A process with a heap that has room for them all takes nothing from the system.
    kib = memory.get(name, 0) / 1024
    return f"{kib:.1f}" if kib > 0 and name != "floor" else ""


def _markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| "
        + " | ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
        + " |"
        for line in [head, rule, *lines]
    )


def _cost(results: Result, name: str) -> float:
    cost: float = results[name]["us_per_delivery"]
    return cost


def _at_most(item: str, what: str, value: float, limit: float, form: str) -> Row:
    return Row(item, what, form.format(value), "≤ " + form.format(limit), value <= limit)


def _peers(results: Result) -> Result:
    return {name: each for name, each in results.items() if name not in {"gateway", "floor"}}


def _fanout(results: Result) -> Iterator[Row]:
    found = results["fanout"]
    own = _cost(found, "gateway")
    yield Row("1", "fan-out, paced: CPU per delivery", f"{own:.2f} µs")
    if "floor" in found:
        ratio = own / _cost(found, "floor")
        yield _at_most("1", "the same, as a multiple of the C floor", ratio, 1.3, "{:.2f}")
    if peers := _peers(found):
        best = min(peers, key=lambda name: _cost(peers, name))
        yield _at_most("1", f"the same; best peer: {best}", own, _cost(peers, best), "{:.2f} µs")


def _burst(results: Result) -> Iterator[Row]:
    found = results["burst"]
    own = _cost(found, "gateway")
    yield _at_most("2", "fan-out, burst: CPU per delivery", own, 0.4, "{:.2f} µs")
    if peers := _peers(found):
        best = min(peers, key=lambda name: _cost(peers, name))
        limit = _cost(peers, best) / 3
        yield _at_most("2", f"the same; a third of the best peer: {best}", own, limit, "{:.2f} µs")


def _one_to_one(results: Result) -> Iterator[Row]:
    found = results["one-to-one"]
    rate = found["steady"]["rate"]
    for name, how in (("steady", f"at {rate:,.0f}/s"), ("full", "at full speed")):
        cost = found[name]["us_per_delivery"]
        yield _at_most("3", f"one to one, {how}: CPU per message", cost, 12, "{:.1f} µs")
        if name == "steady" and (floor := found["floor"]):
            figure = f"{floor['us_per_delivery']:.1f} µs"
            yield Row("3", "the same by the C floor: one read, one send", figure)
        if name == "steady":
            p50 = found["steady"]["latency_ms"]["p50"]
            yield _at_most("3", "the same: latency p50", p50, 0.9, "{:.1f} ms")
        redis = found[name]["redis_us_per_message"]
        yield Row("3", "the same: CPU of Redis", f"{redis:.1f} µs")
    yield Row("3", "full speed, all processes on this machine", f"{found['full']['rate']:,.0f}/s")
    for part, each in found["parts"].items():
        at = each["latency_ms"]
        figures = " / ".join(f"{at[name]:.1f}" for name in ("p50", "p99", "p99.9"))
        yield Row("3", f"latency p50 / p99 / p99.9 at {part} of it", f"{figures} ms")


def _memory(results: Result) -> Iterator[Row]:
    found = results["memory"]
    for size, each in found["sizes"].items():
        kib = each["bytes_per_connection"] / 1024
        yield _at_most("4", f"memory per connection, {int(size):,} idle", kib, 18, "{:.1f} KiB")
    mib = {name: found[f"{name}_bytes"] / 2**20 for name in ("start", "end")}
    yield Row(
        "4",
        "memory of the process before / after them",
        f"{mib['start']:.0f} / {mib['end']:.0f} MiB",
        "back to the start",
        mib["end"] <= mib["start"] * 1.15,
    )


def _storm(results: Result) -> Iterator[Row]:
    found = results["storm"]
    rate = found["per_cpu_second"]
    yield Row(
        "5",
        "storm: sequences per CPU-second of the gateway",
        f"{rate:,.0f}",
        "≥ 5,000",
        rate >= 5_000,
    )
    redis = found["redis_us_per_sequence"]
    yield _at_most("5", "the same: CPU of Redis for each", redis, 25, "{:.0f} µs")
    yield Row("5", f"{found['clients']:,} clients back after", f"{found['seconds']:.1f} s")


def _publish(results: Result) -> Iterator[Row]:
    found = results["publish"]
    many = found["publish_many"]
    yield Row("6", "publish_many: CPU of Redis per publish", f"{many['redis_us']:.1f} µs")
    for what, name, other, limit in (
        ("as a multiple of a history in a stream", "publish_many", "stream_many", 0.8),
        ("the same, logs that are full", "publish_many_full", "stream_many_full", 0.8),
        ("single publish: the same", "publish_awaited", "stream", 1.05),
        ("the same, logs that are full", "publish_awaited_full", "stream_full", 0.85),
        ("1,000 at a time, of publish_many", "concurrent", "publish_many_awaited", 1.3),
    ):
        multiple = found[name]["redis_us"] / found[other]["redis_us"]
        yield _at_most("6", what, multiple, limit, "{:.2f}")
    yield Row("6", "PUBLISH alone", f"{found['unlogged']['redis_us']:.1f} µs")
    followed = "the same, for each further node that follows the channel"
    yield Row("6", followed, f"{found['follower_us']:.1f} µs")
    what = "publish_many: CPU of the client per publish"
    yield _at_most("6", what, many["client_us"], 8, "{:.1f} µs")
    awaited = found["publish_many_awaited"]["client_us"]
    yield _at_most("6", "the same, awaited", awaited, 8, "{:.1f} µs")
    more = found["concurrent"]["client_us"] - awaited
    yield _at_most("6", "1,000 at a time: so much more", more, 8, "{:.1f} µs")
    for name, what in (
        ("publish", "single publish"),
        ("publish_awaited", "single awaited publish"),
    ):
        each = found[name]
        figures = " / ".join(f"{each[key]:.0f}" for key in ("redis_us", "client_us", "wall_us"))
        yield Row("6", f"{what}: CPU of Redis / client, wall time", f"{figures} µs")


def _compression(results: Result) -> Iterator[Row]:
    plain, small = results["compression"]["plain"], results["compression"]["compressed"]
    ratio = small["us_per_delivery"] / plain["us_per_delivery"]
    what = "compressed fan-out of 4 KiB, as a multiple of plain"
    yield _at_most("7", what, ratio, 1.3, "{:.2f}")
    bytes_ = f"{small['bytes_per_delivery']:,.0f} / {plain['bytes_per_delivery']:,.0f}"
    yield Row("7", "bytes on the wire per delivery, compressed / plain", bytes_)


def _batch(results: Result) -> Iterator[Row]:
    found = results["batch"]
    events = found["frames"] / found["sockets"]
    messages = found["messages"] / found["sockets"]
    figure = f"{messages:.0f} / {events:.1f}"
    yield Row(
        "7", "?batch=true, burst: messages / events a client", figure, "fewer", events < messages
    )


def _idle(results: Result) -> Iterator[Row]:
    found = results["idle"]
    part = found["part_of_core"] * 100
    what = f"{found['connections']:,} idle connections, pings every 30 s: of a core"
    yield _at_most("8", what, part, 3, "{:.1f} %")


def _workers(results: Result) -> Iterator[Row]:
    found = results["workers"]
    one, two = found["1"], found["2"]
    per_second = f"{one['rate']:,.0f} / {two['rate']:,.0f}/s"
    yield Row("9", "one to one, full speed: one worker / two", per_second)
    alone, both = (1e6 / each["us_per_delivery"] for each in (one, two))
    what = "messages per CPU-second of the one / of both"
    yield Row("9", what, f"{alone:,.0f} / {both:,.0f}")
    # Not by the rate: publisher and Redis are at their limits before a worker is.
    what = "so two with a core each deliver, as a multiple of one"
    ratio = 2 * both / alone
    yield Row("9", what, f"{ratio:.2f}", "≥ 1.70", ratio >= 1.7)


def _both(item: str, what: str, few: float, many: float, form: str) -> Row:
    """Two figures that are to be the same, and how much larger the second one is."""
    figure = f"{form.format(few)} / {form.format(many)}"
    return Row(item, what, figure, "≤ 1.25 times", many <= few * 1.25)


def _scale(results: Result) -> Iterator[Row]:
    found = results["scale"]
    (small, few), (large, many) = found["sizes"].items()
    yield Row("10", "connections: few / many", f"{int(small):,} / {int(large):,}")
    for what, name, divisor, form in (
        ("CPU for a client that joins", "join_us", 1, "{:.0f} µs"),
        ("the same: CPU of Redis", "redis_join_us", 1, "{:.0f} µs"),
        ("memory of the gateway for a connection", "memory_bytes", 1024, "{:.1f} KiB"),
        ("memory of Redis for a connection", "redis_memory_bytes", 1024, "{:.2f} KiB"),
        ("CPU for an idle connection, a second", "idle_us", 1, "{:.2f} µs"),
        ("the same: CPU of Redis", "redis_idle_us", 1, "{:.2f} µs"),
    ):
        yield _both("10", what, few[name] / divisor, many[name] / divisor, form)
    for what, name in (("a message to one", "publish"), ("a delivery of one to all", "delivery")):
        first, second = few[name], many[name]
        yield _both("10", f"CPU for {what}", first["us"], second["us"], "{:.1f} µs")
        redis = first["redis_us"], second["redis_us"]
        yield _both("10", "the same: CPU of Redis", *redis, "{:.1f} µs")
    sent = many["publish"]
    figure = f"{sent['redis_in_bytes']:,.0f} / {sent['redis_out_bytes']:,.0f}"
    yield Row("10", "bytes into / out of Redis for a message to one", figure)


def _logs(results: Result) -> Iterator[Row]:
    found = results["logs"]
    channels = found["channels"]
    figure = f"{found['bytes_per_channel'] / 1024:.2f} KiB, {found['bytes_per_message']:,.0f} bytes"
    what = f"memory of Redis, {channels:,} logs: a channel with a message, a further message"
    yield Row("11", what, figure)
    for name, each in found["operations"].items():
        few, same, many = (each[which]["redis_us"] for which in ("few", "same", "many"))
        what = f"{name}: CPU of Redis; 1,000 logs / 1,000 of {channels:,} / any of them"
        figure = f"{few:.1f} / {same:.1f} / {many:.1f} µs"
        yield Row("11", what, figure, "≤ 1.25 times", same <= few * 1.25)


def _cluster(results: Result) -> Iterator[Row]:
    found = results["cluster"]
    for way, name in (("many", "publish_many"), ("many_awaited", "the same, awaited")):
        sides = found["publish"][way]
        what = f"{name}: CPU of Redis; one server / one primary / three / with replicas"
        yield Row("12", what, _side_by_side(sides, "redis_us"))
        one, three = sides["one"]["redis_us"], sides["three"]
        busiest, all_three = three["busiest_us"] / one, three["redis_us"] / one
        yield _at_most(
            "12", "the busiest of the three, as a multiple of one", busiest, 0.4, "{:.2f}"
        )
        yield _at_most("12", "all three together, likewise", all_three, 1.2, "{:.2f}")
        yield Row("12", "CPU of the client on each", _side_by_side(sides, "client_us"))
    for name, how in (("steady", "at a steady rate"), ("full", "at full speed")):
        sides = {side: each[name] for side, each in found["delivery"].items()}
        what = f"one to one, {how}: CPU of the node; one server / three primaries"
        yield Row("12", what, _side_by_side(sides, "us_per_delivery"))
        yield Row("12", "the same: CPU of Redis", _side_by_side(sides, "redis_us_per_message"))


def _api(results: Result) -> Iterator[Row]:
    found = {name: each["us"] for name, each in results["api"].items()}
    yield Row("13", "HTTP API, a publish: CPU of the process", f"{found['publish']:.0f} µs")
    what = "the same, as a multiple of a bare handler that publishes"
    yield _at_most("13", what, found["publish"] / found["bare"], 1.35, "{:.2f}")
    yield Row("13", "a line of publish-many: CPU of the process", f"{found['publish_many']:.1f} µs")
    what = "the same, as a multiple of the library's publish_many"
    yield _at_most("13", what, found["publish_many"] / found["library"], 2, "{:.2f}")


def _side_by_side(sides: Result, name: str) -> str:
    return " / ".join(f"{each[name]:.1f}" for each in sides.values()) + " µs"


_ITEMS = {
    "fanout": _fanout,
    "burst": _burst,
    "one-to-one": _one_to_one,
    "memory": _memory,
    "storm": _storm,
    "publish": _publish,
    "compression": _compression,
    "batch": _batch,
    "idle": _idle,
    "workers": _workers,
    "scale": _scale,
    "logs": _logs,
    "cluster": _cluster,
    "api": _api,
}
