"""Everything that reads what comes from outside, and is given inputs that are nearly right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.fuzz.api_bodies import ApiBodies
from tests.fuzz.api_key_files import ApiKeyFiles
from tests.fuzz.discovery import Discovery
from tests.fuzz.frames import Frames
from tests.fuzz.fuzzing import Target
from tests.fuzz.heads import Heads
from tests.fuzz.key_lists import KeyLists
from tests.fuzz.key_sets import KeySets
from tests.fuzz.messages import Messages
from tests.fuzz.payloads import Payloads
from tests.fuzz.tokens import Tokens

TARGETS: Final[dict[str, Callable[[], Target]]] = {
    kind.name: kind
    for kind in (
        *(Frames, Heads, Messages, Tokens, KeySets, KeyLists, Discovery, Payloads),
        *(ApiBodies, ApiKeyFiles),
    )
}
