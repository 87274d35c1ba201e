"""How many calls leave together for Redis."""

from __future__ import annotations

from typing import Any

import pytest

from publisher.transport.pipeline import Commands, Pipeline


def calls_in_each_write(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on, of each write of a pipeline that is connected, how many calls are in it."""
    commands = pipeline._commands
    assert commands is not None
    sent: list[int] = []
    send = Commands.send

    def counting(self: Commands, waiting: Any) -> None:
        before = len(waiting)
        send(self, waiting)
        if self is commands and len(waiting) < before:
            sent.append(before - len(waiting))

    monkeypatch.setattr(Commands, "send", counting)
    return sent
