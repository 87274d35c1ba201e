"""What development mode keeps in its folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.development.login import development_api_key, development_secret
from gateway.settings import UsageError


def test_gateways_that_are_started_together_have_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: development_api_key(folder), range(64)))
    ((key, file),) = found
    assert file.read_text() == f"{key}\n"
    assert (file.stat().st_mode & 0o777, len(key)) == (0o600, 64)


def test_a_file_that_a_full_disk_has_left_empty_is_filled(tmp_path: Path) -> None:
    (tmp_path / "jwt-secret").touch()
    secret = development_secret(tmp_path)
    assert secret is not None
    assert len(secret) == 64
    assert development_secret(tmp_path) == secret


def test_a_folder_that_cannot_be_had_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="GATEWAY_DATA_FOLDER"):
        development_secret(tmp_path / "file" / "folder", create=True)
