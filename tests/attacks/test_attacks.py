"""Whatever anybody sends, the others are served, and the node's memory, its log and Redis are spared."""

from __future__ import annotations

import pytest

from tests.attacks.harness import attack
from tests.attacks.kinds import KINDS, Kind
from tests.attacks.report import line
from tests.attacks.target import SMALL
from tests.support.programs import RequireProgram

SLOW = ("messages unread", "tls and no request")


@pytest.mark.parametrize(
    "kind",
    [
        # Neighbours in the list knock at the same doors, and some take their time.
        pytest.param(
            kind, marks=[pytest.mark.long] * (number % 2 or kind.name in SLOW), id=kind.name
        )
        for number, kind in enumerate(kind for kind in KINDS if not kind.variant)
    ],
)
async def test_an_attacker_costs_others_little(
    kind: Kind, redis_url: str, prefix: str, require_program: RequireProgram
) -> None:
    nginx = require_program("nginx") if kind.behind_nginx else None
    outcome = await attack(kind, SMALL, redis_url, prefix, nginx)
    print(line(outcome))  # noqa: T201 - told with -s, and of what fails
    assert not outcome.excesses
