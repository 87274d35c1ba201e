"""A secret may be in a file, and a mistake there shows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import SECRETS, Settings
from publisher.contract.secret_values import NAMES, read_secret, without_secrets
from publisher.errors import InvalidData

SECRET = "redis://:a-secret-that-is-good-for-most-of-them@localhost:6379/0"
RING = f"k1:{'AQEB' * 10}AQE="


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
# The file of the API's keys is read again and again, by who serves the API.
@pytest.mark.parametrize("name", sorted(set(SECRETS) - {"api_keys"}))
def test_every_secret_setting_takes_a_file_without_the_line_ends_behind_it(
    tmp_path: Path, name: str, end: str
) -> None:
    file, secret = tmp_path / "secret", RING if name == "encryption_keys" else SECRET
    file.write_bytes(f"{secret}{end}".encode())
    given = Settings(**{name: f"@{file}"})
    assert getattr(given, name).get_secret_value() == secret
    assert secret not in repr(given)


def test_the_secret_settings_are_these() -> None:
    assert set(SECRETS) == {
        "redis_url",
        "jwt_secret",
        "jwt_keys",
        "encryption_keys",
        "api_keys",
    }


def test_no_secret_setting_is_passed_on_however_its_name_is_written() -> None:
    assert {f"GATEWAY_{name.upper()}" for name in SECRETS} <= NAMES
    given = {f"{name}": SECRET for name in NAMES} | {f"{name.lower()}": SECRET for name in NAMES}
    others = {
        "PATH": "/bin",
        "GATEWAY_PORT": "1",
        "PUBLISHER_REDIS_PREFIX": "rt1",
        "REDIS_URL": "x",
    }
    assert without_secrets(given | others) == others


def test_what_stands_before_and_within_a_secret_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" \n a\nb \n")
    assert read_secret(f"@{tmp_path / 'secret'}") == " \n a\nb "
    assert read_secret("a@b") == "a@b"


def unreadable(folder: Path) -> dict[str, str]:
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    return {
        "missing": f"@{folder / 'hidden'}",
        "a folder": f"@{folder}",
        "empty": f"@{folder / 'empty'}",
        "binary": f"@{folder / 'binary'}",
        "no name": "@",
        "a name that no file has": "@hidden\0",
        "a name that is too long": f"@{'hidden' * 1_000}",
    }


def test_a_file_that_cannot_be_used_is_an_error_that_does_not_name_it(tmp_path: Path) -> None:
    for value in unreadable(tmp_path).values():
        with pytest.raises(InvalidData) as told:
            read_secret(value)
        assert "hidden" not in str(told.value)
        assert str(tmp_path) not in str(told.value)
        with pytest.raises(ValidationError, match="@"):
            Settings(jwt_secret=value)
