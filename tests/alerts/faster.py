"""The product's own configurations of Prometheus and Alertmanager, for which time passes faster.

Every duration is divided by the same number: how often is scraped and judged, over how long a rate is taken, how long
something must last, how long a notification waits. What is not a duration of theirs stays: thresholds (0.1 s, 1 a
second, 80 %) mean the same, as real gateways and real clients have no faster time.
"""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = r"(\d+)([smhd])\b"
_PLACES: Final = re.compile(
    rf"((?:for|group_wait|group_interval|repeat_interval|scrape_interval|evaluation_interval): |\[){_DURATION}"
)
_SHORTEST_MS: Final = 100
_LONGEST_MS: Final = 20_000
"""Of all but what a rate is taken over. Two hours are this long too: what they wait for is the end of a deploy."""


def faster(configuration: str, speed: float) -> str:
    """The same text with shorter durations.

    Args:
        configuration: of Prometheus or Alertmanager, or a file of rules.
        speed: by what they are divided.
    """

    def shorter(found: re.Match[str]) -> str:
        milliseconds = round(int(found[2]) * _SECONDS[found[3]] * 1_000 / speed)
        longest = milliseconds if found[1] == "[" else _LONGEST_MS
        return f"{found[1]}{min(max(milliseconds, _SHORTEST_MS), longest)}ms"

    return _PLACES.sub(shorter, configuration)
