"""What ``gateway top`` knows of nodes that come and go, and how much of it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.operating.nodes_table import HEAD, as_json, as_text, fitting, row
from gateway.operating.screen import screen
from gateway.operating.watched import REMEMBERED_SECONDS, Watched
from publisher import Node, NodeReport

REPORT = NodeReport("0.2.0", 0, True, False, 1_200, 20_000, 9, 7, 10.4, 2_000, 1, 0.012)
NODES = [Node("a", REPORT), Node("new", None)]


def states(watched: Watched) -> dict[str, str]:
    return {cells[0]: cells[HEAD.index("STATE")] for cells in watched.rows()}


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


def test_a_node_that_has_gone_is_shown_for_a_while_unless_it_comes_back() -> None:
    watched = Watched()
    watched.found([Node("a", REPORT), Node("b", REPORT), Node("c", REPORT)], 0)
    watched.found([Node("a", REPORT)], 1)
    assert states(watched) == {"a": "ready", "b": "gone", "c": "gone"}
    watched.found([Node("a", REPORT), Node("b", REPORT)], 2)
    assert states(watched) == {"a": "ready", "b": "ready", "c": "gone"}
    watched.found([Node("a", REPORT), Node("b", REPORT)], 1 + REMEMBERED_SECONDS)
    assert states(watched) == {"a": "ready", "b": "ready"}


def test_nobody_has_gone_because_redis_does_not_answer() -> None:
    watched = Watched()
    watched.found(NODES, 0)
    watched.failed("no answer")
    assert states(watched) == {"a": "ready", "new": "-"}
    watched.found(NODES, 5)
    assert watched.problem is None


def test_nodes_are_sorted_by_what_is_asked_for() -> None:
    watched = Watched()
    watched.found(
        [
            Node("a", REPORT),
            Node("b", replace(REPORT, connections=9_000, event_loop_lag=0.0)),
            Node("c", replace(REPORT, event_loop_lag=1.0)),
        ],
        0,
    )
    orders = {}
    for _ in range(4):
        orders[watched.order] = [cells[0] for cells in watched.rows()]
        watched.next_order()
    assert orders == {"name": [*"abc"], "connections": [*"bac"], "lag": [*"cab"]}


def test_nothing_moves_the_cursor_of_who_looks() -> None:
    hostile = replace(REPORT, version="\x1b[2J", redis_down=("\x9b1A",))
    watched = Watched()
    watched.found([Node("a\x1b]0;title\x07", hostile), Node("b\n\x1b", None)], 0)
    watched.found([], 1)
    for text in (as_text([Node("a\x1b]0;", hostile)]), *map("".join, watched.rows())):
        assert all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.parametrize("columns", range(1, 120, 7))
def test_what_is_left_out_is_no_more_than_has_no_room(columns: int) -> None:
    rows = [row(Node("gateway-1", REPORT))]
    shown = fitting(rows, columns)
    assert {0, HEAD.index("STATE")} <= {*shown}
    widths = [max(len(HEAD[each]), len(rows[0][each])) for each in range(len(HEAD))]
    assert sum(widths[each] + 2 for each in shown) - 2 <= columns or len(shown) == 2
    assert len(shown) == len(HEAD) or sum(widths) + 2 * (len(HEAD) - 1) > columns


@pytest.mark.parametrize(("columns", "lines"), [(1, 1), (20, 5), (80, 24), (200, 60)])
def test_the_screen_is_never_larger_than_the_terminal(columns: int, lines: int) -> None:
    from rich.console import Console

    watched = Watched()
    watched.found([Node(f"gateway-{number}", REPORT) for number in range(30)], 0)
    watched.failed("a long reason " * 20)
    console = Console(width=columns, height=lines, force_terminal=False)
    with console.capture() as captured:
        console.print(screen(watched, 3, columns, lines))
    printed = captured.get().splitlines()
    assert max(map(len, printed)) <= columns
    assert len(printed) <= max(lines, 5)
    if lines == 24:
        assert "and 10 more" in captured.get()
