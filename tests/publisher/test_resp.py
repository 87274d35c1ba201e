"""Reading and writing Redis' protocol with hiredis and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from publisher import AsyncPublisher, Published
from publisher.transport import resp
from publisher.transport.resp import ProtocolError, PythonReplies, pack
from tests.publisher.test_publishing import CHANNEL

replies = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40) | st.just(ResponseError),
    lambda inner: st.lists(inner, max_size=5),
)


def encoded(reply: object) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))
        case _:
            return b"-WRONGTYPE that is not it\r\n"


def plain(reply: object) -> object:
    """With errors that can be compared."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    return (type(reply), str(reply)) if isinstance(reply, Exception) else reply


@given(st.lists(replies, max_size=6), st.integers(1, 9))
def test_without_hiredis_the_same_replies_are_read_however_they_arrive(said: list, size: int):
    hiredis = pytest.importorskip("hiredis")
    ours = PythonReplies()
    theirs = hiredis.Reader(protocolError=ProtocolError, replyError=ResponseError)
    data = b"".join(map(encoded, said))
    found: list[list[object]] = []
    for reader in (ours, theirs):
        read = []
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            while (reply := reader.gets()) is not False:
                read.append(plain(reply))
        found.append(read)
    assert len(found[0]) == len(said)
    assert found[0] == found[1]


@pytest.mark.parametrize("said", [b"?\r\n", b":one\r\n", b"$x\r\n", b"HTTP/1.1 400\r\n"])
def test_what_is_no_reply_is_an_error(said: bytes):
    for reader in (PythonReplies(), resp.replies()):
        reader.feed(said)
        with pytest.raises(ProtocolError):
            reader.gets()


@given(st.lists(st.text() | st.binary() | st.integers() | st.floats(), min_size=1))
def test_numbers_and_text_are_packed_the_same_without_hiredis(command: list):
    pytest.importorskip("hiredis")
    try:
        packed = pack(tuple(command))
    except UnicodeEncodeError:
        return  # a lone surrogate
    assert packed == resp._python_pack(tuple(command))


async def test_the_asyncio_client_works_without_hiredis(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resp, "_HiredisReader", None)
    monkeypatch.setattr(resp, "_hiredis_pack", None)
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        outcomes = await publisher.publish_many([(CHANNEL, "é" * n) for n in range(1_200)])
        assert all(isinstance(each, Published) for each in outcomes)
        retained = await publisher.history(CHANNEL)
    newest = [each.id for each in outcomes if isinstance(each, Published)][-len(retained) :]
    assert [entry.id for entry in retained] == newest
    assert len(retained) > 100
