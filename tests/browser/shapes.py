"""The shapes of the wire contract: these keys, and `id`, and no others."""

from __future__ import annotations

import time
from typing import Any

NOTIFICATION = {
    "title": "新的访问请求",
    "message": "家长张先生申请查看您的学习数据",
    "action": "approve_request",
    "request-id": "req-789",
}


def is_notification(message: dict[str, Any], user: str, id: int) -> None:
    """Check that it is ``NOTIFICATION``."""
    _is_data(message, "notifications", user, id)
    renamed = {"request-id": "requestId"}
    assert message["data"] == {renamed.get(key, key): text for key, text in NOTIFICATION.items()}


def is_run_result(
    message: dict[str, Any],
    session: str,
    id: int,
    *,
    stdout: str,
    stderr: str = "",
    exit_code: int = 0,
) -> None:
    """Check that it is the result of a program that really ran."""
    _is_data(message, "run-results", session, id)
    duration = message["data"]["duration"]
    assert type(duration) is int
    assert 0 < duration < 60_000
    assert message["data"] == {
        "stdout": stdout,
        "stderr": stderr,
        "exitCode": exit_code,
        "duration": duration,
    }


def _is_data(message: dict[str, Any], namespace: str, name: str, id: int) -> None:
    assert set(message) == {"type", "channel", "data", "timestamp", "id"}
    assert message["type"] == namespace
    assert message["channel"] == f"{namespace}/{name}"
    assert message["id"] == id
    assert message["timestamp"] == id // 1000
    assert abs(message["timestamp"] / 1000 - time.time()) < 300
