"""Which offers of permessage-deflate are accepted, and with which words (RFC 7692 §5, §7.1)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import header_lists
from gateway.core.extensions import Deflate, negotiate

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "deflate_offers.json").read_text("utf-8")
)

# The name of an extension is compared as it is registered.
DECIDED = {"PERMESSAGE-DEFLATE": False}


def accepted(case: dict[str, Any]) -> bool:
    return DECIDED[case["offer"]] if case["accepted"] == "decide" else case["accepted"]


def words(answer: str) -> list[str]:
    return answer.split("; ")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["offer"])
def test_each_offer_of_the_field_gets_its_answer(case: dict[str, Any]) -> None:
    agreed = negotiate(case["offer"])
    assert (agreed is not None) == accepted(case)
    if agreed is not None:
        assert words(agreed.answer)[0] == "permessage-deflate"
        assert set(case.get("has", ())) <= set(words(agreed.answer))
        names = {word.partition("=")[0] for word in words(agreed.answer)}
        assert not set(case.get("never", ())) & names


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate;",
        "permessage-deflate; ; client_max_window_bits",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=",
        'permessage-deflate; server_max_window_bits=""',
        'permessage-deflate; server_max_window_bits="10',
        "permessage-deflate; server_max_window_bits=1 0",
        "permessage-deflate; server_max_window_bits=\u0661\u0660",
        "permessage-deflate; server_no_context_takeover=",
        'permessage-deflate; server_no_context_takeover=""',
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=07",
        "permessage-deflate; Server_No_Context_Takeover",
        "permessage-deflate=1",
        '"permessage-deflate"',
        'x; y="permessage-deflate',
        ",,;",
        "",
    ],
)
def test_what_is_malformed_or_unknown_is_declined(offer: str) -> None:
    assert negotiate(offer) is None


@pytest.mark.parametrize(
    "offer",
    [
        ",, permessage-deflate ; server_max_window_bits = 10 ,",
        '\tpermessage-deflate;server_max_window_bits="\\10"',
        'x; y="a, \\", b", permessage-deflate; server_max_window_bits=10',
        "permessage-deflate; level=9, permessage-deflate; server_max_window_bits=10, permessage-deflate",
    ],
)
def test_spaces_quotes_and_empty_members_make_no_difference(offer: str) -> None:
    agreed = negotiate(offer)
    assert agreed is not None
    assert agreed.window_bits == 10
    assert "server_max_window_bits=10" in words(agreed.answer)


# -- generated offers, and a reading of the RFC by itself -----------------------------------------

VALUES = ["", *map(str, range(6, 18)), "010", "x", "-9"]
PARAMETERS = st.tuples(
    st.sampled_from(
        [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
            "client_max_window_bits",
            "level",
        ]
    ),
    st.none() | st.sampled_from(VALUES),
    st.booleans(),  # quoted
)
OFFERS = st.lists(
    st.tuples(
        st.sampled_from(["permessage-deflate"] * 4 + ["x-deflate", "permessage-deflate2"]),
        st.lists(PARAMETERS, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def written(name: str, value: str | None, quoted: bool) -> str:
    if value is None:
        return name
    return f'{name}="{value}"' if quoted or not value else f"{name}={value}"


def number_of(value: str | None) -> int:
    """A window's bits as they are written; 0 for what is no number of bits."""
    return int(value) if value is not None and re.fullmatch("[89]|1[0-5]", value) else 0


def is_valid(name: str, value: str | None) -> bool:
    match name:
        case "server_no_context_takeover" | "client_no_context_takeover":
            return value is None
        case "client_max_window_bits":
            return value is None or number_of(value) > 0
        case "server_max_window_bits":
            return number_of(value) > 8  # zlib makes no raw deflate of 8
    return False


def window_of(name: str, parameters: list[tuple[str, str | None, bool]]) -> int | None:
    """The window that is agreed on with one offer, rule by rule."""
    names = [parameter for parameter, _, _ in parameters]
    if name != "permessage-deflate" or len(names) != len(set(names)):
        return None
    if not all(is_valid(parameter, value) for parameter, value, _ in parameters):
        return None
    asked = [
        number_of(value)
        for parameter, value, _ in parameters
        if parameter == "server_max_window_bits"
    ]
    return asked[0] if asked else 15


@given(OFFERS)
def test_the_first_offer_that_is_valid_is_agreed_on(
    offers: list[tuple[str, list[tuple[str, str | None, bool]]]],
) -> None:
    header = ", ".join("; ".join([name, *(written(*p) for p in given)]) for name, given in offers)
    valid = [(w, given) for name, given in offers if (w := window_of(name, given)) is not None]
    agreed = negotiate(header)
    if not valid:
        assert agreed is None
        return
    window, given = valid[0]
    assert agreed is not None
    named = "server_max_window_bits" in [name for name, _, _ in given]
    takeover = ["server_no_context_takeover", "client_no_context_takeover"]
    expected = ["permessage-deflate", *takeover]
    assert agreed.window_bits == window
    assert words(agreed.answer) == expected + [f"server_max_window_bits={window}"] * named


@given(st.text(alphabet='permsag-dflt; ,="\\_0123456789x', max_size=60))
def test_no_header_is_too_odd(header: str) -> None:
    agreed = negotiate(header)
    assert agreed is None or isinstance(agreed, Deflate)


@pytest.mark.parametrize("junk", ["a," * 9_000, "a;b," * 4_000, "a" + ";b" * 9_000 + ","])
def test_of_thousands_of_offers_a_few_are_looked_at(
    junk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unquoted = header_lists._unquoted
    looked_at = []

    def counted(raw: str) -> str | None:
        looked_at.append(raw)
        return unquoted(raw)

    monkeypatch.setattr(header_lists, "_unquoted", counted)
    negotiate(f"{junk}permessage-deflate")
    assert len(looked_at) < 200


def test_what_is_no_space_in_http_is_part_of_a_name() -> None:
    assert negotiate("permessage-deflate\xa0") is None
    assert negotiate("permessage-deflate; client_max_window_bits\x85") is None
    assert negotiate("\tpermessage-deflate ;\tclient_max_window_bits = 10 ") is not None
