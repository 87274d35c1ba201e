"""What is refused at the start, because it cannot be meant."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.credentials import make_verifier
from gateway.options import add_options, load_settings
from gateway.setting_doubts import doubts
from gateway.settings import Settings, UsageError
from tests.support.tokens import SECRET, make_token

LISTS = ["allowed_origins", "console_hosts", "events", "jwt_algorithms", "trusted_proxies"]


def loaded(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return load_settings(parser.parse_args(arguments))


def test_these_are_the_settings_that_are_lists() -> None:
    fields = Settings.model_fields.items()
    assert [name for name, field in fields if field.annotation == list[str]] == sorted(
        LISTS, key=list(Settings.model_fields).index
    )


@pytest.mark.parametrize("value", [",", " , ", ",,"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_nothing_is_no_empty_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    told = "there is nothing between its commas"
    with monkeypatch.context() as patch:
        patch.setenv(f"GATEWAY_{name.upper()}", value)
        with pytest.raises(UsageError, match=f"GATEWAY_{name.upper()}.*{told}"):
            loaded()
    with pytest.raises(UsageError, match=told):
        loaded(f"--{name.replace('_', '-')}={value}")
    with monkeypatch.context() as patch:
        file = tmp_path / "gateway.toml"
        file.write_text(f'{name} = "{value}"\n')
        patch.setenv("GATEWAY_CONFIG", str(file))
        with pytest.raises(UsageError, match=told):
            loaded()


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_may_be_meant(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", "")
    assert getattr(loaded(), name) == []


SEPARATED = {
    "events": ["connected", "disconnected"],
    "allowed_origins": ("https://a.org", "https://b.org"),
    "console_hosts": ("a.example", "b.example"),
    "jwt_algorithms": ("HS256", "HS384"),
    "trusted_proxies": ("10.0.0.0/8", "fd00::/8"),
}


@pytest.mark.parametrize("separator", [" ", ";", "; ", "\n"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_not_separated_by_commas_is_told_so(
    monkeypatch: pytest.MonkeyPatch, name: str, separator: str
) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", separator.join(SEPARATED[name]))
    with pytest.raises(UsageError, match=f"GATEWAY_{name.upper()}.*write commas between its parts"):
        loaded()
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", " , ".join(SEPARATED[name]))
    assert getattr(loaded(), name) == list(SEPARATED[name])


def test_a_comma_behind_the_last_name_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8,")
    assert loaded().trusted_proxies == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize("name", ["a/1", "a b", "a}", "-a", "a\n", "a" * 64])
def test_what_cannot_be_the_name_of_a_node_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="must be a name such as gateway-1"):
        loaded(f"--node-name={name}")
    assert loaded("--node-name=a-1.b_C").node_name == "a-1.b_C"


# -- variables without a value --------------------------------------------------------------------


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"GATEWAY_{name.upper()}", "")
    monkeypatch.setenv("GATEWAY_CONFIG", "")
    # Not even a setting that something else depends on.
    assert (loaded(), loaded().model_fields_set) == (Settings(), set())


def test_an_empty_variable_hides_nothing_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('allowed_origins = "https://a.org"\n')
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "")
    assert loaded().allowed_origins == ["https://a.org"]
    assert loaded("--allowed-origins=").allowed_origins == []


def test_an_empty_key_in_a_file_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    empty = ("jwt_public_key", "jwt_jwks_url", "jwt_keys")
    file.write_text(f'jwt_secret = "{SECRET}"\n' + "".join(f'{name} = ""\n' for name in empty))
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    assert make_verifier(loaded()).verify(make_token("ann")).user == "ann"
    file.write_text(f'jwt_secret = ""\n[[jwt_keys]]\nsecret = "{SECRET}"\n')
    assert make_verifier(loaded()).verify(make_token("ann")).user == "ann"


def test_a_number_that_no_json_has_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[[jwt_keys]]\nsecret = "{SECRET}"\nuntil = {10**20}\n')
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    with pytest.raises(UsageError, match=r"GATEWAY_JWT_KEYS.*64-bit") as told:
        loaded()
    assert SECRET not in str(told.value)


# -- a token in a cookie --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "a b", "a=b", "a;b", "tökän", '"a"'])
def test_a_cookie_has_a_name_that_cookies_may_have(name: str) -> None:
    with pytest.raises(UsageError, match=r"GATEWAY_JWT_COOKIE.*must be the name of a cookie"):
        loaded(f"--jwt-cookie={name}", "--allowed-origins=https://app.example.org")


def test_a_cookie_needs_a_list_of_origins() -> None:
    with pytest.raises(
        UsageError, match=r"GATEWAY_ALLOWED_ORIGINS.*GATEWAY_JWT_COOKIE needs a list"
    ):
        loaded("--jwt-cookie=__Host-token")


@pytest.mark.parametrize(
    "pattern",
    ["*", "null", "NULL", "https://*", "http://*", "https://*:8443", "https://*:*", "file://"],
)
def test_a_cookie_lets_in_no_pages_of_anybodys(pattern: str) -> None:
    origins = f"https://app.example.org,{pattern}"
    loaded(f"--allowed-origins={origins}")
    with pytest.raises(UsageError, match=r"GATEWAY_ALLOWED_ORIGINS.*names no host"):
        loaded("--jwt-cookie=t", f"--allowed-origins={origins}")


@pytest.mark.parametrize(
    "pattern",
    [
        "http://app.example.org",
        "HTTP://app.example.org:8080",
        "http://*.example.org",
        "http://10.0.0.7",
        "http://[2001:db8::1]:3000",
        "http://localhost.example.org",
    ],
)
def test_a_cookie_lets_in_no_page_that_somebody_on_the_way_may_have_changed(pattern: str) -> None:
    origins = f"https://app.example.org,{pattern}"
    loaded(f"--allowed-origins={origins}")
    with pytest.raises(UsageError, match=r"GATEWAY_ALLOWED_ORIGINS.*is not https"):
        loaded("--jwt-cookie=t", f"--allowed-origins={origins}")


def test_a_cookie_goes_with_origins_that_name_hosts() -> None:
    here = "http://localhost:*,http://[::1]:3000,http://127.0.0.1:5173,http://app.localhost"
    origins = f"https://app.example.org,https://*.example.org,capacitor://localhost,{here}"
    settings = loaded("--jwt-cookie=t", f"--allowed-origins={origins}")
    assert (settings.jwt_cookie, len(settings.allowed_origins)) == ("t", 7)


# -- what may be meant ----------------------------------------------------------------------------


def test_an_empty_list_of_origins_is_advised_against_except_in_development_mode() -> None:
    [told] = doubts(loaded())
    assert "GATEWAY_ALLOWED_ORIGINS is empty" in told
    assert "or write *" in told
    for meant in ("--allowed-origins=*", "--allowed-origins=https://a.org", "--development"):
        assert doubts(loaded(meant)) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--trusted-proxies=10.0.0.0/8,0.0.0.0/0"], "GATEWAY_TRUSTED_PROXIES holds every address"),
        (["--trusted-proxies=::/0"], "GATEWAY_TRUSTED_PROXIES holds every address"),
        (["--proxy-protocol"], "GATEWAY_PROXY_PROTOCOL has no effect"),
        (["--no-jwt-require-expiry"], "GATEWAY_JWT_REQUIRE_EXPIRY is false"),
        (["--jwt-cookie=token"], "GATEWAY_JWT_COOKIE does not begin with __Host-"),
        (["--allowed-origins=https://*.org:8443"], "GATEWAY_ALLOWED_ORIGINS has a pattern"),
        (["--redis-url=rediss://r?ssl_cert_reqs=none"], "GATEWAY_REDIS_URL has ssl_cert_reqs"),
    ],
)
def test_a_weak_setting_is_advised_against(arguments: list[str], told: str) -> None:
    given = ["--allowed-origins=https://app.example.org", *arguments]
    [advised] = doubts(loaded(*given))
    assert advised.startswith(told)
    if "--jwt-cookie=token" not in arguments:
        assert doubts(loaded(*given, "--development")) == []


@pytest.mark.parametrize("user", ["", "default"])
def test_redis_default_user_with_a_password_is_advised_against(
    monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "*")
    monkeypatch.setenv("GATEWAY_REDIS_URL", f"redis://{user}:p4ssw0rd@r:6379")
    [advised] = doubts(loaded())
    assert "default user" in advised
    assert "p4ssw0rd" not in advised


def test_settings_that_are_as_the_docs_have_them_are_not_advised_against(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", "rediss://gateway:p4ssw0rd@r?ssl_ca_certs=ca.pem")
    given = (
        *("--jwt-cookie=__Host-token", "--trusted-proxies=10.0.0.0/8", "--proxy-protocol"),
        *("--no-jwt-require-expiry", "--jwt-max-lifetime-seconds=600"),
        "--allowed-origins=https://*.example.org,http://*.localhost:3000",
    )
    assert doubts(loaded(*given)) == []


@pytest.mark.parametrize(
    "around", ['"{}"', "'{}'", " {}", "{} ", "\ufeff{}", "GATEWAY_JWT_SECRET={}"]
)
def test_a_secret_with_what_stood_around_it_is_advised_against(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, around: str
) -> None:
    monkeypatch.setenv("GATEWAY_ALLOWED_ORIGINS", "*")
    file = tmp_path / "secret"
    monkeypatch.setenv("GATEWAY_JWT_SECRET", f"@{file}")
    for written, advised in ((around.format(SECRET), 1), (f"{SECRET}\n", 0), ("k" * 31 + "=", 0)):
        file.write_text(written, "utf-8")
        told = doubts(loaded())
        assert len(told) == advised
        assert not any(SECRET in each for each in told)


def test_a_kind_of_event_that_there_is_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_EVENTS", "connected,left")
    with pytest.raises(UsageError, match=r"'left' is no event; there are connected, disconnected"):
        loaded()
