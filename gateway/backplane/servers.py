"""What is known of the servers that have keys: one has all of them, or each primary of a cluster a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Servers:
    """``of``: the server that has a key, as a person reads it. What waits for one must hold up nothing for another.

    ``away``: whether the server that has a key is away while others serve. What is for that one is put off until it is
    back, when all is restored.
    """

    of: Callable[[str], str] = lambda _key: ""
    away: Callable[[str], bool] = lambda _key: False


ONE: Final = Servers()
"""There is only one, and it has all keys."""
