"""What writes the audit log: each line is JSON, nobody else can read the file, and nothing that goes wrong holds a node up."""

from __future__ import annotations

import json
import logging
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway import audit_log as writing
from gateway.audit_log import audit_log
from gateway.core import closing
from gateway.node import audit
from publisher.contract.control import GrantRevoked
from publisher.contract.grants import EVERYBODY
from tests.support.tokens import make_token
from tests.unit.fakes import make_connection


class Lost:
    """Counts lines that are lost."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_each_line_says_when_and_where_what_has_happened_to_whom(tmp_path: Path) -> None:
    file, lost = tmp_path / "audit.log", Lost()
    connection, _ = make_connection(user='o"hara\n张三', id="1f")
    with audit_log(str(file), "host-1a2b", 3, lost):
        audit.admitted(connection, "https://app.example.org")
        audit.refused("token_invalid", "192.0.2.1", 0)
        audit.refused("connection_limit", None, 7, user="ann")
        audit.grant_revoked(GrantRevoked("run-results/s", "ann"))
        audit.grant_revoked(GrantRevoked("run-results/s", EVERYBODY))
        audit.ended(connection, 1008, closing.TOKEN_EXPIRED.reason)
        audit.ended(connection, None, "")
    told = lines(file)
    assert {(each.pop("node"), each.pop("worker")) for each in told} == {("host-1a2b", 3)}
    assert all(each.pop("time").endswith("Z") for each in told)
    who = {"user": 'o"hara\n张三', "connection": "1f"}
    assert told == [
        {"event": "admitted", **who, "origin": "https://app.example.org"},
        {"event": "refused", "code": "token_invalid", "address": "192.0.2.1"},
        {"event": "refused", "code": "connection_limit", "user": "ann", "left_out": 7},
        {"event": "grant_revoked", "channel": "run-results/s", "user": "ann"},
        {"event": "grant_revoked", "channel": "run-results/s", "everybody": True},
        {"event": "ended", **who, "code": 1008, "reason": "token_expired"},
        {"event": "ended", **who},
    ]
    assert lost.count == 0


def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with audit_log(str(file), "n", None, Lost()):
        audit.refused("origin", None, 0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_that_somebody_calls_themselves_is_not_told(tmp_path: Path) -> None:
    file, token = tmp_path / "audit.log", make_token("u")
    with audit_log(str(file), "n", None, Lost()):
        audit.refused("origin", None, 0, user=token, origin=f"https://{token}")
    assert token.partition(".")[2][:12] not in file.read_text()


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with audit_log(str(file), "n", None, Lost()):
        audit.refused("origin", "192.0.2.1", 0)
        written = threading.Event()
        while not file.read_text():
            written.wait(0.005)
        file.rename(tmp_path / "audit.log.1")
        audit.refused("origin", "192.0.2.2", 0)
    assert [each["address"] for each in lines(tmp_path / "audit.log.1")] == ["192.0.2.1"]
    assert [each["address"] for each in lines(file)] == ["192.0.2.2"]


def test_what_cannot_be_written_is_counted_and_told_once_and_the_rest_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file, lost = folder / "audit.log", Lost()
    away = tmp_path / "away"
    with audit_log(str(file), "n", None, lost):
        folder.rename(away)
        for _ in range(3):
            audit.refused("origin", None, 0)
        waiting = threading.Event()
        while lost.count < 3:
            waiting.wait(0.005)
        away.rename(folder)
        audit.refused("host", None, 0)
    assert [each["code"] for each in lines(file)] == ["host"]
    assert lost.count == 3
    told = [each for each in caplog.records if "audit_unwritten" in each.message]
    assert len(told) == 1


def test_a_disk_that_hangs_holds_up_nothing_and_what_has_no_room_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lost, hangs = tmp_path / "audit.log", Lost(), threading.Event()
    begun = threading.Event()

    class Hanging(writing._File):
        def emit(self, record: logging.LogRecord) -> None:
            begun.set()
            hangs.wait(30)
            super().emit(record)

    monkeypatch.setattr(writing, "_File", Hanging)
    monkeypatch.setattr(writing, "_WAITING", 10)
    with audit_log(str(file), "n", None, lost):
        audit.refused("origin", None, 0)
        assert begun.wait(30)
        for _ in range(50):
            audit.refused("origin", None, 0)
        assert lost.count == 40
        hangs.set()
    assert len(lines(file)) == 11


def test_where_nobody_has_asked_for_it_nothing_is_made_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unread:
        """Fails when anything of it is looked at."""

    caplog.set_level("DEBUG")
    audit.admitted(Unread(), None)  # type: ignore[arg-type]
    audit.ended(Unread(), None, "")  # type: ignore[arg-type]
    audit.refused("origin", None, 0)
    assert not caplog.records


def test_a_place_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError), audit_log(str(tmp_path / "none" / "a"), "n", None, Lost()):
        pass
