"""What an issuer's discovery document names as the place of its keys: one that can be believed, or none."""

from __future__ import annotations

import json
import random
from typing import Final

from hypothesis import strategies as st

from gateway.web.key_fetching import Fetched, NoKeys, is_local, is_trustworthy
from gateway.web.key_places import DiscoveredPlace

_ISSUER: Final = "https://login.example/tenant"
_LOCAL_ISSUER: Final = "http://localhost:8080"


class Discovery:
    """A document of one of two issuers, one of which is this machine."""

    name = "discovery"
    corpus = tuple(
        json.dumps(each).encode()
        for each in (
            {"issuer": _ISSUER, "jwks_uri": "https://login.example/keys?x=1"},
            {"issuer": _LOCAL_ISSUER, "jwks_uri": "http://127.0.0.1:8080/keys"},
            {"issuer": _LOCAL_ISSUER, "jwks_uri": "http://[::1]/keys"},
            {"issuer": _ISSUER, "jwks_uri": "https://localhost/keys"},
            {"issuer": _ISSUER, "jwks_uri": "http://login.example/keys"},
            {"issuer": _ISSUER, "jwks_uri": "https://user:password@login.example/keys"},
            {"issuer": _ISSUER, "jwks_uri": ["https://login.example/keys"]},
            {"issuer": f"{_ISSUER}/", "jwks_uri": "https://login.example/keys"},
            {"issuer": None},
            *([], None, "text", 1),
        )
    )
    words = (
        *(b'"issuer":', b'"jwks_uri":', _ISSUER.encode(), _LOCAL_ISSUER.encode(), b"https://"),
        *(
            b"file:///etc/passwd",
            b"HTTPS://",
            b"http://[",
            b"http://127.1/",
            b"//",
            b"@",
            b"\\u0000",
        ),
        *(b"http://127.0.0.1\\\\@h/", b"https://%6cocalhost", b"http://2130706433/", b"localhost."),
        *(b"null", b"{}", b"[]", b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"[" * 99),
    )
    structured = st.fixed_dictionaries(
        {
            "issuer": st.sampled_from([_ISSUER, _LOCAL_ISSUER]),
            "jwks_uri": st.none()
            | st.text(max_size=20)
            | st.builds(
                "{}://{}{}".format,
                st.sampled_from(["https", "http", "HTTPS", "ftp", ""]),
                st.sampled_from(["h", "localhost", "127.0.0.1", "[::1]", "u@h", "127.1", "["])
                | st.text(max_size=5),
                st.text(max_size=10),
            ),
        }
    ).map(lambda document: json.dumps(document).encode("utf-8", "surrogatepass"))

    def take(self, data: bytes, _dice: random.Random) -> None:
        """Let it read an input."""

        async def fetch(_url: str, _most: int) -> Fetched:
            return Fetched(data)

        for issuer in (_ISSUER, _LOCAL_ISSUER):
            asking = DiscoveredPlace(issuer, fetch, lambda: 0.0).url()
            try:
                asking.send(None)
            except StopIteration as found:
                url: str = found.value
            except NoKeys:
                continue
            assert is_trustworthy(url)
            assert is_local(issuer) or not is_local(url)
            assert json.loads(data)["issuer"] == issuer
