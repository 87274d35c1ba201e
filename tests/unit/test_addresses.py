"""Where a client connects from, by the word of those who are trusted."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.core import header_lists
from gateway.core.addresses import Client, TrustedProxies, address_of, block_of
from gateway.core.http import Head

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


def head(**fields: str) -> Head:
    return Head("GET", "/", "", "1.1", {n.replace("_", "-"): [v] for n, v in fields.items()})


FORMS = {
    "1.2.3.4": "1.2.3.4",
    " 1.2.3.4\t": "1.2.3.4",
    "1.2.3.4:5678": "1.2.3.4",
    "1.2.3.4:_hidden": "1.2.3.4",
    "[1.2.3.4]": "1.2.3.4",
    "2001:DB8::1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:db8::1]:443": "2001:db8::1",
    "2001:db8:0:0::1": "2001:db8::1",
    "fe80::1%eth0": "fe80::1",
    "::ffff:1.2.3.4": "1.2.3.4",
    "[::ffff:1.2.3.4]:80": "1.2.3.4",
    "::1": "::1",
    "": None,
    "unknown": None,
    "_hidden": None,
    "1.2.3": None,
    "1.2.3.4.5": None,
    "1.2.3.4:": None,
    "[2001:db8::1": None,
    "2001:db8::1]:80": None,
    "[2001:db8::1]80": None,
    "example.org": None,
    "example.org:80": None,
}


@pytest.mark.parametrize(("node", "address"), FORMS.items(), ids=FORMS)
def test_an_address_is_found_in_each_form(node: str, address: str | None) -> None:
    assert address_of(node) == address


@given(st.text(max_size=30))
def test_no_text_is_too_odd(node: str) -> None:
    found = address_of(node)
    assert found is None or address_of(found) == found


def test_a_line_is_one_address_with_ipv4_and_a_block_with_ipv6() -> None:
    assert block_of("1.2.3.4") == "1.2.3.4"
    assert block_of("2001:db8::1") == block_of("2001:db8::ffff:0:0:1") == "2001:db8::/64"
    assert block_of("2001:db8:0:1::1") != block_of("2001:db8::1")


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded"])
def test_who_is_not_trusted_is_not_believed(name: str) -> None:
    said = head(**{name: "for=1.2.3.4" if name == "forwarded" else "1.2.3.4"})
    assert PROXIES.client("203.0.113.7", said) == Client("203.0.113.7", True)
    assert TrustedProxies().client("10.0.0.1", said) == Client("10.0.0.1", True)
    assert PROXIES.client("10.0.0.1", said) == Client("1.2.3.4", True)


FOR = {
    "one": (["1.2.3.4"], Client("1.2.3.4", True)),
    "the last one that is not trusted": (
        ["6.6.6.6", "1.2.3.4", "10.9.9.9"],
        Client("1.2.3.4", True),
    ),
    "an IPv6 one with a port": (["[2001:db8::1]:443"], Client("2001:db8::1", True)),
    "a mapped proxy": (["1.2.3.4", "::ffff:10.0.0.2"], Client("1.2.3.4", True)),
    "proxies only": (["10.0.0.3", "fd00::1"], Client("10.0.0.3", False)),
    "an unknown one": (["6.6.6.6", "unknown", "10.0.0.3"], Client(None, False)),
    "nothing": ([""], Client(None, False)),
}


@pytest.mark.parametrize(("nodes", "client"), FOR.values(), ids=FOR)
def test_the_right_most_address_that_is_not_trusted_counts(
    nodes: list[str], client: Client
) -> None:
    assert PROXIES.client("10.0.0.1", head(x_forwarded_for=", ".join(nodes))) == client
    forwarded = ", ".join(f'proto=https;FOR="{node}";by=_x' for node in nodes)
    assert PROXIES.client("10.0.0.1", head(forwarded=forwarded)) == client
    # What a proxy writes without quotes, as far as the grammar lets it.
    if not any(set(node) & set("[]:") for node in nodes) and nodes != [""]:
        plain = ", ".join(f"for={node}" for node in nodes)
        assert PROXIES.client("10.0.0.1", head(forwarded=plain)) == client


def test_a_proxy_that_says_nothing_speaks_for_nobody() -> None:
    assert PROXIES.client("10.0.0.1", head()) == Client("10.0.0.1", False)
    assert PROXIES.client("10.0.0.1", head(forwarded="by=10.0.0.1")) == Client(None, False)
    assert PROXIES.client(None, head(x_forwarded_for="1.2.3.4")) == Client(None, False)


@pytest.mark.parametrize("forged", ["forwarded", "x_forwarded_for"])
def test_a_field_that_a_client_forged_beside_the_proxys_own_is_of_no_use(forged: str) -> None:
    fields = {"x_forwarded_for": "1.2.3.4", "forwarded": "for=1.2.3.4"}
    assert PROXIES.client("10.0.0.1", head(**fields)) == Client("1.2.3.4", True)
    fields[forged] = fields[forged].replace("1.2.3.4", "6.6.6.6")
    # All who do that count together, for the proxy's address.
    assert PROXIES.client("10.0.0.1", head(**fields)) == Client("10.0.0.1", True)


@given(
    st.text('for=";,\\\\ 6.1_[]:', max_size=40),
    st.sampled_from(
        ["for=1.2.3.4", 'for="[2001:db8::1]:80"', 'proto=https;for="1.2.3.4";host="a"']
    ),
)
def test_no_beginning_of_a_field_hides_who_sends_it(sent: str, added: str) -> None:
    proxied = PROXIES.client("10.0.0.1", head(forwarded=f"{sent}, {added}"))
    event(str(proxied))
    assert proxied.counts
    assert proxied.address in {"1.2.3.4", "2001:db8::1", "10.0.0.1"}


@given(st.lists(st.sampled_from(["1.2.3.4", "6.6.6.6", "unknown", "10.1.1.1", ""]), max_size=6))
def test_nothing_that_a_client_sends_changes_what_the_proxy_adds(sent: list[str]) -> None:
    added = ", ".join([*sent, "203.0.113.7", "10.0.0.2"])
    expected = Client("203.0.113.7", True)
    assert PROXIES.client("10.0.0.1", head(x_forwarded_for=added)) == expected


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:0:0/96", "8.8.8.8", "2001:db8::1"),
    ],
)
def test_a_network_of_ipv4_may_be_written_as_ipv6_has_it(
    network: str, inside: str, outside: str
) -> None:
    proxies = TrustedProxies([network])
    assert inside in proxies
    assert outside not in proxies


def test_what_a_client_puts_before_its_address_is_not_read() -> None:
    """It may be 16 KiB of elements, and each takes time."""
    seen = []
    parameters = header_lists.parameters

    def counted(element: str) -> list[header_lists.Parameter] | None:
        seen.append(element)
        return parameters(element)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_lists, "parameters", counted)
        sent = "for=10.0.0.1," * 1_200
        said = head(forwarded=f"{sent}for=203.0.113.7, for=10.0.0.2")
        assert PROXIES.client("10.0.0.1", said) == Client("203.0.113.7", True)
    assert len(seen) == 2


@pytest.mark.parametrize("network", ["10.0.0.0/33", "example.org", "", "10.0.0.0/8/8"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies([network])
