"""On which kinds of Redis the tests run."""

from __future__ import annotations

import pytest

from tests.support import topology


@pytest.mark.parametrize("name", ["Cluster", "nonsense"])
def test_a_topology_that_the_tests_cannot_run_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TOPOLOGY", name)
    with pytest.raises(
        ValueError, match=f"TOPOLOGY={name}: the tests run on single, sentinel, cluster"
    ):
        topology.chosen()


def test_a_test_about_a_single_server_is_left_out_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TOPOLOGY", raising=False)
    topology.require_one_server("of a proxy")
    monkeypatch.setenv("TOPOLOGY", "sentinel")
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="a single server only: of a proxy"):
        topology.require_one_server("of a proxy")
