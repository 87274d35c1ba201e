"""The two small measurements of encryption and of the audit log run, so that their figures can be had again."""

from __future__ import annotations

import pytest

from tests.bench import audit, encryption


async def test_what_encryption_costs_is_measured_with_and_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encryption, "MESSAGES", 10)
    monkeypatch.setattr(encryption, "ROUNDS", 1)
    await encryption.main()
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_what_the_audit_log_costs_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "CONNECTIONS", 10)
    monkeypatch.setattr(audit, "ROUNDS", 1)
    audit.main()
    assert "bytes" in capsys.readouterr().out
