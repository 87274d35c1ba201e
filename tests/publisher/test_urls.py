"""What is said of a URL that cannot be used: which part is wrong, and what form is expected."""

from __future__ import annotations

import pytest

from publisher import AsyncPublisher, InvalidURL, Publisher
from publisher.contract.redis_url import check_url

WRONG = {
    "redis://localhost:port/0": "the port of the host must be a number from 1 to 65535",
    "redis://localhost:0": "the port of the host",
    "redis://localhost:65536": "the port of the host",
    "redis://localhost:999999999999": "the port of the host",
    "redis://fe80::1:6379": "an IPv6 address stands in brackets",
    "redis://::1": "an IPv6 address stands in brackets",
    "redis://[::1": "the host is missing, or cannot be read",
    "rediss://": "the host is missing",
    "redis://one:6379,two:6379": "several hosts go with redis+sentinel:// or redis+cluster:// only",
    "redis://localhost/first": "the database behind the last slash must be a number",
    "redis://u:p@ss@localhost": "must be percent-encoded: @ is %40",
    "redis://u:p[w@localhost": "must be percent-encoded",
    "unix://run/redis.sock": "its path begins with a third slash",
    "unix://u:p@": "its path begins with a third slash",
    "redis+sentinel://one,two:x/main": "the port of host 2 must be a number",
    "redis+sentinel://one,,two/main": "host 2 is missing",
    "redis+sentinel://one,two": "the name of the primary is missing",
    "rediss+sentinel://one/main/first": "the database behind the last slash must be a number",
    "redis+cluster://one:x": "the port of the host",
    "redis+cluster://one,": "host 2 is missing",
    "rediss+cluster://one/1": "a cluster has one database",
}


@pytest.mark.parametrize("url", WRONG)
def test_the_part_that_is_wrong_is_named_with_the_form_that_is_expected(url: str):
    with pytest.raises(InvalidURL) as caught:
        check_url(url)
    said = str(caught.value)
    assert said.startswith("invalid Redis URL: ")
    assert WRONG[url] in said
    scheme = url.partition("://")[0]
    assert f"; expected {scheme}://[USER:PASSWORD@]" in said


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "REDIS://localhost"])
def test_without_a_scheme_that_is_known_all_are_named(url: str):
    with pytest.raises(InvalidURL, match="must begin with redis://, rediss://, unix://, redis"):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost?db=1&colour=blue", "no option 'colour'"),
        ("redis+cluster://one?socket_timeout=soon", "no option 'socket_timeout', or cannot use"),
        ("redis+sentinel://one/main?colour=blue", "no option 'colour'"),
        ("redis://localhost?ssl_ca_certs=/etc/ca.pem", "options of TLS go with rediss://"),
        ("redis+cluster://one?ssl_ca_certs=/etc/ca.pem", "rediss+cluster://"),
    ],
)
@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
def test_an_option_that_cannot_be_used_is_named(
    client: type[Publisher | AsyncPublisher], url: str, said: str
):
    with pytest.raises(InvalidURL) as caught:
        client.from_url(url)
    assert said in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0\n",
        "redis://localhost:",
        "redis://[::1]:6379",
        "redis+sentinel://one,[::1]:26379/main\n",
        "redis+cluster://one:7000,two/",
    ],
)
def test_a_url_is_taken_with_parts_left_out_and_with_the_end_of_its_line(url: str):
    Publisher.from_url(url).close()
