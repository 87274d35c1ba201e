"""Making publishers: from what, with which arguments, and in which process."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.sentinel import Sentinel

from publisher import AsyncPublisher, InvalidData, Publisher
from tests.publisher.test_publishing import CHANNEL


@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": None},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"retries": None},
    ],
)
def test_impossible_arguments_are_refused_at_once(
    client: type[Publisher | AsyncPublisher], wrong: dict[str, Any]
):
    with pytest.raises(InvalidData, match=next(iter(wrong))):
        client.from_url("redis://127.0.0.1:1", **wrong)


@pytest.mark.parametrize(
    ("kind", "client", "wanted", "advice"),
    [
        (Publisher, "redis://:cr3t@localhost", "redis.Redis", "Publisher.from_url(url)"),
        (AsyncPublisher, "redis://:cr3t@h", "redis.asyncio.Redis", "AsyncPublisher.from_url(url)"),
        (Publisher, redis.asyncio.Redis(), "redis.Redis", "pass it to AsyncPublisher()"),
        (AsyncPublisher, redis.Redis(), "redis.asyncio.Redis", "pass it to Publisher()"),
        (Publisher, Sentinel([("h", 1)]), "redis.Redis", "pass its master_for(name)"),
        (Publisher, None, "redis.Redis", "Publisher.from_url(url)"),
    ],
)
def test_what_is_no_client_is_refused_with_what_to_call_instead(
    kind: Any, client: Any, wanted: str, advice: str
):
    with pytest.raises(InvalidData) as caught:
        kind(client)
    said = str(caught.value)
    assert f"takes a client, {wanted}, " in said
    assert said.endswith(advice)
    assert "cr3t" not in said


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [
        (Publisher, redis.Redis().pipeline()),
        (AsyncPublisher, redis.asyncio.Redis().pipeline()),
        (AsyncPublisher, redis.asyncio.RedisCluster("localhost").pipeline()),
    ],
)
def test_a_pipeline_is_refused_with_what_to_pass_instead(kind: Any, pipeline: Any):
    with pytest.raises(InvalidData, match=r"takes a client, .*Pipeline; pass the client that"):
        kind(pipeline)


def test_a_pickled_publisher_connects_anew(publisher: Publisher):
    first = publisher.publish(CHANNEL, 1)
    with pickle.loads(pickle.dumps(publisher)) as copy:
        copy.publish(CHANNEL, 2)
        with pickle.loads(pickle.dumps(copy)) as copy_of_the_copy:
            assert [entry.data for entry in copy_of_the_copy.history(CHANNEL)] == [1, 2]
            assert copy_of_the_copy.history(CHANNEL)[0].id == first.id


async def test_a_pickled_asyncio_publisher_connects_anew(async_publisher: AsyncPublisher):
    await async_publisher.publish(CHANNEL, 1)
    async with pickle.loads(pickle.dumps(async_publisher)) as copy:
        assert [entry.data for entry in await copy.history(CHANNEL)] == [1]


@pytest.mark.parametrize(
    ("kind", "client"), [(Publisher, redis.Redis), (AsyncPublisher, redis.asyncio.Redis)]
)
def test_one_made_of_an_existing_client_says_that_it_cannot_be_pickled(kind: Any, client: Any):
    with pytest.raises(TypeError, match=f"{kind.__name__}.*from_url or from_env"):
        pickle.dumps(kind(client()))
