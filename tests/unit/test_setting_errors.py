"""A setting that is refused at the start is named, with what is wrong and an example that would be taken."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import pytest

from gateway.options import add_options, load_settings
from gateway.setting_examples import example
from gateway.settings import Settings, UsageError

FREE = {
    *("host", "internal_host", "api_host", "redis_prefix", "jwt_user_claim", "jwt_audience"),
    *("jwt_issuer", "jwt_public_key", "jwt_jwks_url", "audit_log", "data_folder"),
    *("tls_certificate", "tls_key", "internal_tls_certificate", "internal_tls_key"),
    *("internal_tls_client_ca", "api_keys", "jwt_secret", "jwt_keys"),
}
"""Any text may be one; whether it is of use shows when it is used."""
WRONG = {"redis_url": "http://x", "node_name": "a b", "path": "/a b", "jwt_cookie": "a;b"}
"""Where a single comma would do."""


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", value)
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(UsageError) as caught:
        load_settings(parser.parse_args([]))
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - FREE))
def test_the_setting_what_is_wrong_and_an_example_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = refused(monkeypatch, name, WRONG.get(name, ","))
    variable = f"GATEWAY_{name.upper()}"
    (line,) = [each for each in told.splitlines() if f"({variable})" in each]
    found = re.fullmatch(rf"  {name} \({variable}\): (.+); for example {variable}=(\S.*)", line)
    assert found, told
    assert len(found[1]) > 5


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_example_is_a_value_that_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (word,) = shlex.split(example(name))  # pasted into a shell
    variable, _, value = word.partition("=")
    assert variable == f"GATEWAY_{name.upper()}"
    assert value not in {"", "None", "[]", "{}"}
    if value.startswith("@"):
        return  # a file that is not here
    needed: dict[str, Any] = {
        "jwt_cookie": {"allowed_origins": ["https://app.example.com"]},
        "jwt_jwks_url": {"jwt_audience": "realtime", "jwt_issuer": "https://login.example.com/"},
    }
    monkeypatch.setenv(variable, value)
    Settings(**needed.get(name, {}))
