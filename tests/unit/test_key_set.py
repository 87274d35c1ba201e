"""Which of several keys a token is verified with."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import KeyUnknown, TokenRejected, Use
from gateway.credentials import make_verifier
from gateway.settings import Settings
from gateway.web.auth import TokenVerifier
from gateway.web.decoding import Decoder, Demands
from gateway.web.key_set import Entry, KeySet
from gateway.web.keys import public_key, secret_key
from tests.support.identity_provider import rsa_key
from tests.support.tokens import RSA_KEY, public_pem
from tests.unit.fakes import FakeClock
from tests.unit.test_remote_keys import Issuer
from tests.unit.virtual_time import run_at_once

OLD = "the secret of before, which is long enough"
NEW = "another secret, which is long enough as well"
FIELD = json.loads((Path(__file__).parents[1] / "cases" / "claims.json").read_text("utf-8"))


def judge(*keys: dict[str, Any], clock: FakeClock | None = None, **settings: Any) -> TokenVerifier:
    given = Settings(jwt_keys=json.dumps(keys), **settings)
    return make_verifier(given, wall_clock=clock or time.time)


def signed(secret: Any, algorithm: str = "HS256", header: Any = None, **claims: Any) -> str:
    body = {"sub": "ann", "exp": int(time.time()) + 60, **claims}
    return jwt.encode(body, secret, algorithm, header)


def refused(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(TokenRejected) as told:
        verifier.verify(token)
    return str(told.value)


# -- rotation of a secret -------------------------------------------------------------------------


@pytest.mark.parametrize("kids", [True, False], ids=["with kids", "without"])
def test_an_old_secret_is_accepted_until_its_moment(kids: bool) -> None:
    clock = FakeClock(1_800_000_000.0 - 60)
    names = ({"kid": "new"}, {"kid": "old"}) if kids else ({}, {})
    verifier = judge(
        {"secret": NEW, **names[0]},
        {"secret": OLD, **names[1], "until": "2027-01-15T09:00:00+01:00"},
        clock=clock,
    )
    old = signed(OLD, header=names[1], exp=2**31)
    new = signed(NEW, header=names[0], exp=2**31)
    for _ in range(2):
        assert verifier.verify(old).user == "ann"
        assert verifier.verify(new).user == "ann"
        clock.now = 1_800_000_000.0 - 0.1
    clock.now = 1_800_000_000.0 + 0.1
    assert "key" in refused(verifier, old)
    assert verifier.verify(new).user == "ann"


def test_the_key_that_has_signed_a_token_says_what_is_wrong_with_it() -> None:
    verifier = judge({"secret": NEW}, {"secret": OLD})
    assert refused(verifier, signed(OLD, exp=1)) == "expired"
    assert refused(verifier, signed(NEW, exp=1)) == "expired"
    assert "signature" in refused(verifier, signed(NEW[::-1]))


# -- by kid, by issuer, by what it is for ---------------------------------------------------------


def test_a_token_with_a_kid_goes_to_the_keys_of_this_name_and_to_no_other() -> None:
    verifier = judge({"secret": OLD, "kid": "a"}, {"secret": NEW, "kid": "b"})
    assert verifier.verify(signed(OLD, header={"kid": "a"})).user == "ann"
    assert "signature" in refused(verifier, signed(OLD, header={"kid": "b"}))
    assert "kid" in refused(verifier, signed(OLD, header={"kid": "c"}))
    # A login that names no key is tried with all of them.
    assert verifier.verify(signed(NEW)).user == "ann"


def test_a_key_without_a_name_takes_tokens_with_any() -> None:
    verifier = judge({"secret": OLD, "kid": "a"}, {"secret": NEW})
    assert verifier.verify(signed(NEW, header={"kid": "whatever"})).user == "ann"
    assert "signature" in refused(verifier, signed(NEW, header={"kid": "a"}))


def test_a_key_speaks_for_its_own_issuer_only() -> None:
    verifier = judge({"secret": OLD, "issuer": "https://a"}, {"secret": NEW, "issuer": "https://b"})
    for _ in range(2):
        assert verifier.verify(signed(OLD, iss="https://a")).user == "ann"
        assert verifier.verify(signed(NEW, iss="https://b")).user == "ann"
        assert "signature" in refused(verifier, signed(OLD, iss="https://b"))
        for wrong in ("https://c", None, 5, ["https://a"]):
            assert "iss" in refused(verifier, _written({"sub": "ann", "exp": 2**31, "iss": wrong}))


def test_issuers_whose_keys_have_the_same_name_are_told_apart() -> None:
    verifier = judge(
        {"secret": OLD, "issuer": "https://a", "kid": "1"},
        {"secret": NEW, "issuer": "https://b", "kid": "1"},
    )
    header = {"kid": "1"}
    for _ in range(2):
        assert verifier.verify(signed(OLD, header=header, iss="https://a")).user == "ann"
        assert verifier.verify(signed(NEW, header=header, iss="https://b")).user == "ann"


def _written(claims: dict[str, Any]) -> str:
    """As any login may write it: PyJWT refuses to write some of these."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), OLD, "HS256")


def test_the_issuer_of_one_key_is_checked_too() -> None:
    verifier = judge({"secret": OLD, "issuer": "https://a"})
    assert verifier.verify(signed(OLD, iss="https://a")).user == "ann"
    assert refused(verifier, signed(OLD, iss="https://b")).endswith("GATEWAY_JWT_KEYS[0].issuer")


def test_an_audience_is_that_of_the_key(caplog: pytest.LogCaptureFixture) -> None:
    verifier = judge({"secret": OLD, "audience": "us"}, {"secret": NEW, "kid": "b"})
    assert verifier.verify(signed(OLD, aud=["us", "them"])).user == "ann"
    assert refused(verifier, signed(OLD, aud="them")).endswith("GATEWAY_JWT_KEYS[0].audience")
    assert verifier.verify(signed(NEW, header={"kid": "b"})).user == "ann"
    refused(verifier, signed(NEW, header={"kid": "b"}, aud="us"))
    assert caplog.messages == [
        "audience_not_configured setting=GATEWAY_JWT_KEYS[1].audience aud=us"
    ]


def test_a_key_for_channels_lets_nobody_in() -> None:
    verifier = judge({"secret": OLD, "for": "channel"}, {"secret": NEW, "for": "connection"})
    assert verifier.verify(signed(NEW)).user == "ann"
    assert "signature" in refused(verifier, signed(OLD))
    assert refused(judge({"secret": OLD, "for": "channel"}), signed(OLD)).endswith("a connection")


def test_whose_key_is_for_something_else_is_told_so() -> None:
    verifier = judge({"secret": NEW}, {"secret": OLD, "kid": "c", "for": "channel"})
    told = refused(verifier, signed(OLD, header={"kid": "c"}))
    assert told in ("its key is not for a connection", "its signature was not made with this key")
    named = judge({"secret": NEW, "kid": "n"}, {"secret": OLD, "kid": "c", "for": "channel"})
    assert refused(named, signed(OLD, header={"kid": "c"})) == "its key is not for a connection"
    assert refused(named, signed(OLD, header={"kid": "x"})) == "its kid is that of no key"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([{"secret": NEW}], []),
        ([{"secret": NEW}, {"secret": OLD, "for": "channel"}], []),
        ([{"secret": OLD, "for": "channel"}], ["no key verifies the tokens of connections"]),
        ([{"secret": NEW}, {"secret": OLD, "until": 1}], ["GATEWAY_JWT_KEYS[1].secret verifies"]),
        (
            [{"secret": OLD, "until": 1}],
            ["GATEWAY_JWT_KEYS[0].secret verifies", "no key verifies the tokens of connections"],
        ),
    ],
)
def test_keys_that_are_of_no_use_are_told(keys: list[dict[str, Any]], told: list[str]) -> None:
    found = judge(*keys).keys.doubts()
    assert len(found) == len(told)
    assert all(map(str.startswith, found, told))


def test_each_key_verifies_its_own_kind_only() -> None:
    pem = public_pem(RSA_KEY)
    verifier = judge({"secret": OLD}, {"public_key": pem, "algorithms": ["RS256", "PS512"]})
    assert verifier.verify(signed(OLD)).user == "ann"
    assert verifier.verify(signed(RSA_KEY, "RS256")).user == "ann"
    assert "alg" in refused(verifier, signed(RSA_KEY, "RS384"))


def test_keys_stand_beside_those_that_have_settings_of_their_own() -> None:
    verifier = judge({"secret": OLD}, jwt_secret=NEW)
    assert verifier.verify(signed(NEW)).user == "ann"
    assert verifier.verify(signed(OLD)).user == "ann"
    assert refused(verifier, signed(OLD, aud="us")).endswith(
        "GATEWAY_JWT_KEYS[0].audience is not set"
    )


def test_a_key_that_moves_into_the_list_keeps_the_issuer_and_the_audience() -> None:
    common = {"jwt_issuer": "https://us", "jwt_audience": "us"}
    ours = {"iss": "https://us", "aud": "us"}
    own = make_verifier(Settings(jwt_secret=OLD, **common))
    for verifier in (own, judge({"secret": OLD}, **common)):
        assert verifier.verify(signed(OLD, **ours)).user == "ann"
        theirs = refused(verifier, signed(OLD, iss="https://them", aud="us"))
        assert theirs.endswith("GATEWAY_JWT_ISSUER")
        theirs = refused(verifier, signed(OLD, iss="https://us", aud="them"))
        assert theirs.endswith("GATEWAY_JWT_AUDIENCE")


def test_a_key_of_the_list_may_have_another_issuer_and_audience_or_none() -> None:
    common = {"jwt_issuer": "https://us", "jwt_audience": "us"}
    verifier = judge({"secret": OLD, "issuer": "https://them", "audience": None}, **common)
    assert verifier.verify(signed(OLD, iss="https://them")).user == "ann"
    assert refused(verifier, signed(OLD, iss="https://us")).endswith("GATEWAY_JWT_KEYS[0].issuer")
    verifier = judge({"secret": OLD, "issuer": None, "audience": "them"}, **common)
    assert verifier.verify(signed(OLD, iss="https://anybody", aud="them")).user == "ann"
    assert refused(verifier, signed(OLD, aud="us")).endswith("GATEWAY_JWT_KEYS[0].audience")


# -- how many are tried ---------------------------------------------------------------------------


def test_a_token_without_a_name_is_tried_with_four_keys_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = [f"{number}, and {OLD}" for number in range(32)]
    tried: list[Decoder] = []
    claims = Decoder.claims

    def counted(decoder: Decoder, token: str) -> dict[str, Any]:
        tried.append(decoder)
        return claims(decoder, token)

    monkeypatch.setattr(Decoder, "claims", counted)
    named = [{"secret": each, "kid": each[:2]} for each in secrets]
    verifier = judge(*named)
    assert "too many keys fit" in refused(verifier, signed(NEW))
    assert tried == []
    assert verifier.verify(signed(secrets[31], header={"kid": "31"})).user == "ann"

    verifier = judge(*named[4:], *({"secret": each} for each in secrets[:4]))
    for header in ({}, {"kid": "unknown"}):
        tried.clear()
        assert verifier.verify(signed(secrets[3], header=header)).user == "ann"
        assert "signature" in refused(verifier, signed(NEW, header=header))
        assert len(tried) == 8

    # Where there are few, their names make no difference to it.
    assert judge(*named[:4]).verify(signed(secrets[3])).user == "ann"


@pytest.mark.parametrize("case", FIELD, ids=lambda case: json.dumps(case["claims"]))
def test_claims_from_the_field_are_judged_alike_by_a_key_of_the_list(case: dict[str, Any]) -> None:
    audience = {"audience": case["configured_audience"]} if "configured_audience" in case else {}
    verifier = judge({"secret": NEW, "kid": "n"}, {"secret": OLD, **audience})
    now = int(time.time())
    claims = {
        name: now + int(value) if isinstance(value, str) and value[0] in "+-" else value
        for name, value in case["claims"].items()
    }
    token = _written({"sub": "ann", "exp": now + 3600, **claims})
    if case["let_in"] is True:
        assert verifier.verify(token).user == "ann"
    else:
        with pytest.raises(TokenRejected) as told:
            verifier.verify(token)
        assert told.value.code == case.get("code", "token_invalid")


# -- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt; v=1", "", None, "JOSE"]
)
def test_a_token_of_a_type_for_services_is_let_in(typ: str | None) -> None:
    header = {"typ": typ} if typ is not None else {"typ": None}
    assert judge({"secret": OLD}).verify(signed(OLD, header=header)).user == "ann"


@pytest.mark.parametrize(
    "typ",
    [
        *(
            "channel+jwt",
            "Application/Channel+JWT",
            "logout+jwt",
            "dpop+jwt",
            "secevent+jwt",
            "x+jwt",
        ),
        *("channel+jwt ", "channel+jwt;v=1", " application/channel+jwt ; v=1"),
    ],
)
def test_a_token_of_a_type_for_something_else_is_refused(typ: str) -> None:
    verifier = judge({"secret": OLD})
    assert "typ" in refused(verifier, signed(OLD, header={"typ": typ}))
    # Also when the key has just signed a token of another type.
    assert verifier.verify(signed(OLD)).user == "ann"
    assert "typ" in refused(verifier, signed(OLD, header={"typ": typ}))


@pytest.mark.parametrize("typ", ["channel+jwt", "application/channel+JWT", "channel+jwt; v=1"])
def test_a_channel_token_may_write_its_type_as_media_types_are_written(typ: str) -> None:
    token = signed(OLD, header={"typ": typ})
    assert judge({"secret": OLD}).keys.read(token, Use.CHANNEL)[0]["sub"] == "ann"


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", None, "channel", "channel+jwt2"])
def test_what_is_no_channel_token_is_not_taken_for_one(typ: str | None) -> None:
    token = signed(OLD, header={"typ": typ})
    keys = judge({"secret": OLD}).keys
    keys.read(token, Use.CONNECTION)
    with pytest.raises(TokenRejected, match=r"typ is not channel\+jwt"):
        keys.read(token, Use.CHANNEL)


# -- whatever is sent -----------------------------------------------------------------------------


@given(st.text() | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}"))
def test_whatever_is_sent_is_judged(token: str) -> None:
    keys = [{"secret": OLD, "issuer": "a"}, {"secret": NEW, "issuer": "b", "kid": "k"}]
    with pytest.raises(TokenRejected):
        judge(*keys).verify(token)


def test_only_as_many_choices_are_remembered() -> None:
    verifier = judge({"secret": OLD, "issuer": "a"}, {"secret": NEW})
    for number in range(100):
        verifier.verify(signed(NEW, header={"kid": f"k{number}"}, iss=f"i{number}"))
        with pytest.raises(TokenRejected):
            verifier.verify(signed(NEW, header={"kid": f"bad{number}"}, exp=1))
    assert len(verifier.keys._known) == 64


def test_of_many_headers_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    # By the choice among the keys, and by each key.
    verifier = judge({"secret": OLD, "issuer": "a"}, {"secret": NEW})
    tokens = [signed(NEW, header={"kid": f"k{number}"}) for number in range(100)]
    for token in tokens:
        verifier.verify(token)
    monkeypatch.setattr("gateway.web.key_set.header_of", _never)
    monkeypatch.setattr(Decoder, "_whole", _never)
    for token in tokens[-64:]:
        verifier.verify(token)


# -- beside keys that an issuer publishes ---------------------------------------------------------


def signed_by(kid: str) -> str:
    return signed(rsa_key(kid), "RS256", {"kid": kid})


async def learned(keys: KeySet, token: str) -> None:
    with pytest.raises(KeyUnknown) as told:
        keys.read(token, Use.CONNECTION)
    await told.value.learn()


def test_a_key_that_nobody_knows_is_looked_for_in_each_set_that_may_have_it() -> None:
    async def check() -> None:
        first, second = Issuer(), Issuer()
        keys = KeySet([Entry(first.keys), Entry(second.keys)], time.time)
        async with first.running(), second.running():
            await asyncio.sleep(20)
            first.kids = ["a", "b"]
            await learned(keys, signed_by("b"))
            assert keys.read(signed_by("b"), Use.CONNECTION)[0]["sub"] == "ann"
            assert (len(first.asked_at), len(second.asked_at)) == (2, 2)

    run_at_once(check())


def test_beside_a_set_the_headers_of_a_key_without_a_name_are_remembered_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        issuer = Issuer()
        own = Decoder(public_key(public_pem(rsa_key("own"))), Demands())
        keys = KeySet([Entry(own), Entry(issuer.keys)], time.time)
        moved = signed(rsa_key("b"), "RS256", {"kid": "own"})
        async with issuer.running():
            await asyncio.sleep(20)
            keys.read(signed_by("own"), Use.CONNECTION)
            with monkeypatch.context() as patch:
                patch.setattr("gateway.web.key_set.header_of", _never)
                keys.read(signed_by("own"), Use.CONNECTION)
                # Who is not known by this key may be by one that the issuer has published since.
                await learned(keys, moved)
            assert len(issuer.asked_at) == 2

    run_at_once(check())


def test_keys_are_usable_when_each_issuer_was_asked_and_one_key_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        up, down = Issuer(), Issuer()
        down.fails = True
        up.seconds = down.seconds = 1
        alone, both = KeySet([Entry(down.keys)], time.time), [Entry(up.keys), Entry(down.keys)]
        own = Entry(Decoder(secret_key(OLD), Demands()))
        sets = [KeySet(both, time.time), KeySet([own, Entry(down.keys)], time.time)]
        # Somebody else's outage is no reason to serve nobody; until they have answered it is none yet.
        assert not any(each.usable for each in sets)
        async with up.running():
            assert not any(each.usable for each in sets)
            async with down.running():
                assert all(each.usable for each in sets)
                assert not alone.usable
                with monkeypatch.context() as patch:
                    # Each handshake asks.
                    patch.setattr(KeySet, "remote", property(_never))
                    assert all(each.usable for each in sets)
                await learned(sets[0], signed(rsa_key("b"), "RS256", {"kid": "b"}))
                down.fails = False
                await asyncio.sleep(10)
                assert alone.usable
        assert KeySet([own], time.time).usable

    run_at_once(check())


def test_a_single_key_is_chosen_without_a_look_at_the_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verifier = judge({"secret": OLD, "issuer": "a"})
    verifier.verify(signed(OLD, iss="a"))
    read: list[str] = []
    monkeypatch.setattr(
        Decoder, "claims", lambda _self, token: read.append(token) or {"sub": "ann"}
    )
    monkeypatch.setattr("gateway.web.key_set.header_of", _never)
    monkeypatch.setattr("gateway.web.key_set.issuer_of", _never)
    verifier.verify(signed(OLD, iss="a"))
    assert len(read) == 1


def _never(*_: object) -> None:
    raise AssertionError("it was looked into")
