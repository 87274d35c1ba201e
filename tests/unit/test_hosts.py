"""Which hosts are this machine."""

from __future__ import annotations

import pytest

from gateway.core.hosts import is_this_machine


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_these_are(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "10.0.0.1", "127.1"]
)
def test_these_are_not(host: str) -> None:
    assert not is_this_machine(host)
