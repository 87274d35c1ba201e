"""What may stand in the list of keys, and what is said of the rest."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.credentials import make_verifier
from gateway.options import add_options, load_settings
from gateway.settings import SECRETS, Settings, UsageError
from gateway.web.keys import BadKey
from tests.support.tokens import RSA_KEY, SECRET, make_token, public_pem

GOOD = {"secret": SECRET}
WRONG: dict[str, tuple[Any, str]] = {
    "no list": (GOOD, "must be a list of 1 to 32 keys"),
    "nothing": ([], "must be a list of 1 to 32 keys"),
    "too many": ([GOOD] * 33, "must be a list of 1 to 32 keys"),
    "no object": ([GOOD, SECRET], "[1] must be an object"),
    "an unknown field": ([{**GOOD, SECRET: 1}], "has a field that is none of secret"),
    "a field that is misspelt": (
        [{**GOOD, "untill": 1}],
        "[0] has the field untill, which is none of",
    ),
    "no key": ([{"kid": "a"}], "must have exactly one of secret"),
    "two keys": ([{**GOOD, "public_key": public_pem(RSA_KEY)}], "must have exactly one of secret"),
    "an empty secret": ([{"secret": ""}], "[0].secret must be text that is not empty"),
    "a secret that is a number": ([{"secret": 5}], "[0].secret must be text"),
    "a short secret": ([{"secret": SECRET[:20]}], "[0].secret is too short"),
    "a secret that is in no file": ([{"secret": "@/nowhere"}], "[0].secret: it begins with @"),
    "a public key that is none": ([{"public_key": SECRET}], "[0].public_key is not a public key"),
    "a kid that is a number": ([{**GOOD, "kid": 5}], "[0].kid must be text"),
    "an empty issuer": ([{**GOOD, "issuer": ""}], "[0].issuer must be text"),
    "audiences": ([{**GOOD, "audience": ["a"]}], "[0].audience must be text"),
    "algorithms as text": ([{**GOOD, "algorithms": "HS256"}], "[0].algorithms must be a list"),
    "a foreign algorithm": ([{**GOOD, "algorithms": ["RS256"]}], "[0].algorithms names RS256"),
    "a time without an offset": ([{**GOOD, "until": "2027-01-01T00:00:00"}], "[0].until must be"),
    "a word for a time": ([{**GOOD, "until": "tomorrow"}], "[0].until must be"),
    "milliseconds": ([{**GOOD, "until": 1_800_000_000_000}], "[0].until must be"),
    "true for a time": ([{**GOOD, "until": True}], "[0].until must be"),
    "for everything": (
        [{**GOOD, "for": "everything"}],
        "[0].for must be one of connection, channel",
    ),
    "a set without its issuer": (
        [{"jwks_url": "https://a.example", "audience": None}],
        "[0].jwks_url needs GATEWAY_JWT_KEYS[0].issuer: providers sign",
    ),
    "a set without its audience": (
        [{"jwks_url": "https://a.example", "issuer": None}],
        "[0].jwks_url needs GATEWAY_JWT_KEYS[0].audience: providers sign",
    ),
    "a set from elsewhere": (
        [{"jwks_url": "http://a.example", "issuer": "a", "audience": "b"}],
        "[0].jwks_url must be an https URL without a user, or http on this machine",
    ),
    "a set with a name": (
        [{"jwks_url": "https://a.example", "issuer": "a", "audience": "b", "kid": "c"}],
        "[0].kid: the keys of a set have names of their own",
    ),
    "an issuer that has no URL": (
        [{"discovery": True, "issuer": "login", "audience": None}],
        "[0].issuer must be an https URL without a user",
    ),
    "discovery of nobody": (
        [{"discovery": True, "issuer": None, "audience": None}],
        "[0].discovery needs GATEWAY_JWT_KEYS[0].issuer",
    ),
    "discovery of a URL": (
        [{"discovery": "https://a.example", "issuer": "https://a.example", "audience": None}],
        "[0].discovery must be true or false",
    ),
    "a set for secrets": (
        [
            {
                "jwks_url": "https://a.example",
                "issuer": "a",
                "audience": "b",
                "algorithms": ["HS256"],
            }
        ],
        "[0].algorithms names HS256, but this key goes with ES256",
    ),
    "five keys that nothing tells apart": (
        [GOOD] * 5,
        "5 keys without a kid go with HS256 and the same issuer",
    ),
    "five keys of one name": (
        [{**GOOD, "kid": "a"}] * 5,
        "5 keys with the same kid go with HS256 and the same issuer",
    ),
    "four keys of an issuer beside one of any": (
        [GOOD, *[{**GOOD, "issuer": "a"}] * 4],
        "5 keys without a kid go with HS256 and the same issuer",
    ),
    "for a list": ([{**GOOD, "for": ["channel"]}], "[0].for must be one of connection, channel"),
}


@pytest.mark.parametrize(("keys", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_the_list_is_told_with_its_place_and_without_its_value(
    keys: Any, told: str
) -> None:
    with pytest.raises(BadKey) as raised:
        make_verifier(Settings(jwt_keys=json.dumps(keys)))
    assert told in str(raised.value)
    assert SECRET not in str(raised.value)


def test_what_is_no_json_is_told_by_its_place() -> None:
    with pytest.raises(BadKey) as raised:
        make_verifier(Settings(jwt_keys=f'[{{"secret": "{SECRET}"'))
    assert str(raised.value).startswith("GATEWAY_JWT_KEYS is not JSON (line 1, column ")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"jwt_jwks_url": "https://a.example"},
            "URL needs GATEWAY_JWT_ISSUER and GATEWAY_JWT_AUDIENCE",
        ),
        (
            {"jwt_jwks_url": "https://a.example", "jwt_audience": "b"},
            "URL needs GATEWAY_JWT_ISSUER:",
        ),
        ({"jwt_discovery": True, "jwt_audience": "b"}, "DISCOVERY needs GATEWAY_JWT_ISSUER:"),
        (
            {"jwt_discovery": True, "jwt_issuer": "login", "jwt_audience": "b"},
            "ISSUER must be an https",
        ),
        (
            {
                "jwt_discovery": True,
                "jwt_jwks_url": "https://a",
                "jwt_issuer": "https://a",
                "jwt_audience": "b",
            },
            "set GATEWAY_JWT_JWKS_URL or GATEWAY_JWT_DISCOVERY, not both",
        ),
    ],
)
def test_what_is_missing_beside_a_set_of_keys_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadKey, match=told):
        make_verifier(Settings(**given))


def test_keys_that_something_tells_apart_may_be_many() -> None:
    public = {"public_key": public_pem(RSA_KEY)}
    for keys in (
        [{**GOOD, "kid": f"{number}"} for number in range(32)],
        [{**GOOD, "issuer": f"{number}"} for number in range(32)],
        [*[GOOD] * 4, *[public] * 4],
        [{**GOOD, "for": use} for use in ("connection", "channel")] * 4,
    ):
        make_verifier(Settings(jwt_keys=json.dumps(keys)))


@pytest.mark.parametrize(
    "given",
    [{"jwks_url": "https://a.example/keys"}, {"discovery": True}],
)
def test_a_set_of_the_list_may_have_issuer_and_audience_from_their_settings(
    given: dict[str, Any],
) -> None:
    common = {"jwt_issuer": "https://a.example", "jwt_audience": "us"}
    verifier = make_verifier(Settings(jwt_keys=json.dumps([given]), **common))
    [keys] = verifier.keys.remote
    assert (keys.demands.issuer, keys.demands.audience) == ("https://a.example", "us")
    with pytest.raises(BadKey, match=r"needs GATEWAY_JWT_KEYS\[0\].issuer"):
        make_verifier(Settings(jwt_keys=json.dumps([{**given}]), jwt_audience="us"))


def test_algorithms_of_keys_that_have_no_settings_of_their_own_are_told_their_place() -> None:
    with pytest.raises(BadKey, match="name the algorithms of a key of the list there"):
        make_verifier(Settings(jwt_keys=json.dumps([GOOD]), jwt_algorithms=["HS256"]))


def test_without_any_key_there_is_nothing_to_verify_with() -> None:
    with pytest.raises(BadKey, match="set GATEWAY_JWT_SECRET, or GATEWAY_JWT_PUBLIC_KEY"):
        make_verifier(Settings())


def test_keys_and_what_they_are_made_of_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"secret": f"@{tmp_path}/secret", "until": 4_000_000_000}]))
    assert make_verifier(Settings(jwt_keys=f"@{keys}")).verify(make_token("ann")).user == "ann"


def test_a_file_of_settings_has_them_as_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[[jwt_keys]]\nsecret = "{SECRET}"\nuntil = 2099-01-01T00:00:00Z\n')
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    assert make_verifier(loaded()).verify(make_token("ann")).user == "ann"


def loaded(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return load_settings(parser.parse_args(arguments))


def test_the_list_is_a_secret() -> None:
    assert "jwt_keys" in SECRETS
    with pytest.raises(UsageError, match="every user of this machine could read this secret"):
        loaded("--jwt-keys", json.dumps([GOOD]))
    assert SECRET not in repr(Settings(jwt_keys=json.dumps([GOOD])))
