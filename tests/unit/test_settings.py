"""What is refused at the start, because it cannot be meant."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.options import add_options, load_settings
from gateway.settings import Settings, UsageError

LISTS = ["allowed_origins", "jwt_algorithms", "trusted_proxies"]


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
    "allowed_origins": ("https://a.org", "https://b.org"),
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
