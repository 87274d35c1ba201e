"""The names in Redis: of one slot for each channel, and no two channels' the same, whatever their ids hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys
from publisher.publication import Options, Publication
from publisher.records import Outgoing

KEYS = Keys()
OF_A_CHANNEL: list[Callable[[str], str]] = [
    KEYS.log,
    KEYS.last,
    KEYS.confirmed,
    KEYS.grant,
    KEYS.presence,
    KEYS.presence_changes,
    KEYS.granted,
    KEYS.live,
]

NAMES = st.builds(
    "{}/{}".format,
    st.sampled_from(["n", "n:", "notifications"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
    # Of few characters, so that what could be taken for another name's is drawn.
    | st.text("{}:/.0k", min_size=1, max_size=8),
)
RESULTS = st.text("0123456789abcdefk.r", min_size=1, max_size=4)


def all_keys(channel: str, result: str) -> list[str]:
    names = [name(channel) for name in OF_A_CHANNEL]
    return [*names, KEYS.result(channel, result), KEYS.collapse(channel, result)]


@given(NAMES, RESULTS)
def test_all_keys_of_a_channel_share_a_slot(channel: str, result: str):
    assert parse_channel(channel)
    keys = all_keys(channel, result)
    assert len({key_slot(key.encode()) for key in keys}) == 1
    # The tag is not empty: then the whole key would be hashed.
    assert all("{}" not in key[: key.index("{") + 2] for key in keys)


@given(NAMES, NAMES, RESULTS, RESULTS)
def test_no_two_channels_share_a_key(one: str, other: str, first: str, second: str):
    if one != other:
        assert not set(all_keys(one, first)) & set(all_keys(other, second))
    assert len(set(all_keys(one, first))) == len(OF_A_CHANNEL) + 2


@given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.booleans())
def test_the_name_of_a_result_holds_no_brace_whatever_the_idempotency_key(key: str, keyed: bool):
    message = Outgoing("n/x}:y", 1, key if keyed else None)
    publication = Publication(message, f"{2**63:016x}", Options())
    assert set(publication.nonce) <= set("0123456789abcdefk.r")


@pytest.mark.parametrize("channel", ["notifications/user-456", "a/A.b_c:d@e-f"])
def test_the_keys_of_names_from_before_stay_as_they_are(channel: str):
    """Pinned: what is in Redis has these names."""
    assert all_keys(channel, "k12.34") == [
        f"rt1:log:{{{channel}}}",
        f"rt1:last:{{{channel}}}",
        f"rt1:confirmed:{{{channel}}}",
        f"rt1:grant:{{{channel}}}",
        f"rt1:presence:{{{channel}}}",
        f"rt1:presence-changes:{{{channel}}}",
        f"rt1:granted:{{{channel}}}",
        f"rt1:live:{{{channel}}}",
        f"rt1:result:{{{channel}}}:k12.34",
        f"rt1:collapse:{{{channel}}}:k12.34",
    ]


def test_grants_are_told_of_under_a_name_that_carries_the_databases_number():
    assert Keys("rt1", 3).granted("a/b") == "rt1@3:granted:{a/b}"
