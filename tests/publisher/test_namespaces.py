"""Which namespaces there are: what gateways announce, and what publishers make of it."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
import redis

from publisher import Namespace, Publisher, UnknownNamespace
from publisher.contract.keys import Keys
from tests.publisher.announcing import FORGOTTEN_SECONDS, Announce

ORDERS = Namespace("orders")


def announced(server: redis.Redis, keys: Keys) -> dict[str, Any]:
    return {
        name.decode(): orjson.loads(rules)
        for name, rules in server.hgetall(keys.namespaces).items()
    }


def let_pass(server: redis.Redis, keys: Keys, seconds: int) -> None:
    """As if all announcements had been made so much earlier."""
    for name, rules in announced(server, keys).items():
        rules["announced"] -= seconds
        server.hset(keys.namespaces, name, orjson.dumps(rules))


def test_an_announcement_holds_the_rules_and_its_time(
    announce: Announce, server: redis.Redis, keys: Keys
):
    before = int(time.time())
    announce(ORDERS, Namespace("ticker", retention=None))
    for name, rules in announced(server, keys).items():
        assert before <= rules.pop("announced") <= time.time()
        assert Namespace.from_dict(name, rules).to_dict() == rules


def test_a_namespace_that_no_node_announces_any_more_is_forgotten(
    announce: Announce, server: redis.Redis, keys: Keys, publisher: Publisher
):
    announce(ORDERS, Namespace("run-results"))
    publisher.publish("orders/1", 1)
    let_pass(server, keys, FORGOTTEN_SECONDS + 1)
    announce(Namespace("run-results"))
    publisher._operations._preflight._learnt_at = float("-inf")
    with pytest.raises(UnknownNamespace) as caught:
        publisher.publish("orders/1", 1)
    assert caught.value.known == ("run-results",)


def test_it_is_kept_while_one_of_several_nodes_has_it(
    announce: Announce, server: redis.Redis, keys: Keys
):
    for _ in range(3):
        announce(ORDERS)
        let_pass(server, keys, FORGOTTEN_SECONDS - 1)
        announce(Namespace("run-results"))
    assert announced(server, keys).keys() == {"orders", "run-results"}


def test_a_node_that_was_forgotten_takes_no_encryption_away_while_another_one_has_it(
    announce: Announce, server: redis.Redis, keys: Keys
):
    sealed = Namespace("orders", encrypted=True)
    for seconds in (60, 149, 0):
        announce(sealed)
        let_pass(server, keys, seconds)
        announce(ORDERS)
        assert announced(server, keys)["orders"]["encrypted"] is True
    let_pass(server, keys, 150)
    announce(ORDERS)
    assert "encrypted" not in announced(server, keys)["orders"]
    announce(sealed)
    assert announced(server, keys)["orders"]["encrypted"] is True


def test_without_any_node_nothing_is_forgotten(
    announce: Announce, server: redis.Redis, keys: Keys, publisher: Publisher
):
    announce(ORDERS)
    let_pass(server, keys, 30 * FORGOTTEN_SECONDS)
    publisher.publish("orders/1", 1)


def test_what_a_node_of_an_earlier_version_announced_is_forgotten_when_it_is_gone(
    announce: Announce, server: redis.Redis, keys: Keys
):
    old = b'{"owner":"grant","retention":null}'
    server.hset(keys.namespaces, "orders", old)
    announce(Namespace("run-results"))
    let_pass(server, keys, FORGOTTEN_SECONDS + 1)
    server.hset(keys.namespaces, "orders", old)
    announce(Namespace("run-results"))
    assert announced(server, keys).keys() == {"orders", "run-results"}
    let_pass(server, keys, FORGOTTEN_SECONDS + 1)
    announce(Namespace("run-results"))
    assert announced(server, keys).keys() == {"run-results"}


def test_what_is_no_announcement_is_left_alone(announce: Announce, server: redis.Redis, keys: Keys):
    server.hset(keys.namespaces, mapping={"bad": "[", "empty": "{}"})
    announce(ORDERS)
    found = server.hgetall(keys.namespaces)
    assert found[b"bad"] == b"["
    assert orjson.loads(found[b"empty"]).keys() == {"announced"}
