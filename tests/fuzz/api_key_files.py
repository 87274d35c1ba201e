"""What an operator writes into the file of GATEWAY_API_KEYS: keys, or a sentence that repeats none of them."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, Final

from hypothesis import strategies as st

from gateway.api.keys import BadApiKeys, Scope, parse

_KEY: Final = "backend-key-of-the-fuzzing-0123456789"
_DIGEST: Final = hashlib.sha256(_KEY.encode()).hexdigest()
_SCOPES: Final = [each.value for each in Scope]
_SHOWN: Final = 16
"""So many characters of a key in an error are no chance."""
_FILES: Final[list[Any]] = [
    {"a": {"key": _KEY, "scopes": _SCOPES}},
    {"a": {"key_sha256": _DIGEST, "scopes": ["read"], "namespaces": ["run-results"], "rate": 5}},
    {"a": {"key": _KEY, "scopes": ["read"]}, "b": {"key_sha256": _DIGEST, "scopes": ["read"]}},
    {"a": {"key": _KEY[:20], "scopes": ["publish"]}},
    {"a": {"key": _KEY + "é", "scopes": ["publish"]}},
    {"a": {"key": _KEY, "scopes": [[]]}},
    {"a": {"key": _KEY, "key_sha256": _DIGEST, "scopes": ["read"]}},
    {"a": _KEY},
    [_KEY],
    *({}, [], None, 1, "", {"a": None}, {"": {}}, {"a": {"rate": 1e400}}),
]


class ApiKeyFiles:
    """A file makes keys that may do something, or there is a sentence about what is wrong with it."""

    name = "api keys"
    corpus = tuple(json.dumps(each).encode() for each in _FILES)
    words = (
        *(b'"key":', b'"key_sha256":', b'"scopes":[', b'"namespaces":[', b'"rate":', b'"publish"'),
        *(b"null", b"true", b"{}", b"[]", b"1e400", b"1e9", b"0", b"NaN", b"\\ud800", b"\xff"),
        *(b"[" * 99, b'"a":', _DIGEST.encode(), b"\\u00e9", b" "),
    )
    structured = st.dictionaries(
        st.sampled_from(["a", "b", "", "ä"]),
        st.dictionaries(
            st.sampled_from(["key", "key_sha256", "scopes", "namespaces", "rate", "more"]),
            st.sampled_from([_KEY, _DIGEST, _SCOPES, ["read"], ["x"], 1, 0.5, True, None])
            | st.integers()
            | st.floats()
            | st.lists(st.text(max_size=5) | st.none(), max_size=3),
        ),
        max_size=3,
    ).map(lambda keys: json.dumps(keys).encode("utf-8", "surrogatepass"))

    def take(self, data: bytes, _dice: random.Random) -> None:
        """Let it read an input."""
        try:
            keys = parse(data.decode("utf-8", "replace"))
        except BadApiKeys as error:
            assert _KEY[:_SHOWN] not in str(error)
            return
        for digest, key in keys.items():
            assert digest == key.digest
            assert key.scopes
            assert key.rate is None or 1 <= key.rate <= 1e9
