"""When an issuer is asked for its keys, and what holds while it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.node.stats import Stats
from gateway.web.decoding import Demands
from gateway.web.key_fetching import Fetched, NoKeys, is_trustworthy
from gateway.web.key_places import DiscoveredPlace, FixedPlace
from gateway.web.keys import PUBLIC_ALGORITHMS
from gateway.web.remote_keys import RemoteKeys
from tests.support.identity_provider import as_json, published, rsa_key
from tests.unit.virtual_time import run_at_once

URL = "https://login.example/jwks?key=hidden"


class Issuer:
    """What is published by the clock of the running loop; each request takes ``seconds``."""

    def __init__(self) -> None:
        self.kids = ["a"]
        self.fails = False
        self.max_age: float | None = None
        self.seconds = 0.0
        self.asked_at: list[float] = []
        self.stats = Stats()
        self.keys = RemoteKeys(
            FixedPlace(URL), self.fetch, PUBLIC_ALGORITHMS, Demands(), self.stats, now, lambda: 0.5
        )

    async def fetch(self, url: str, most: int) -> Fetched:
        assert url == URL
        assert most == 256 * 1_024
        self.asked_at.append(now())
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise NoKeys("status 500")
        return Fetched(
            as_json(*(published(rsa_key(kid), kid=kid) for kid in self.kids)), self.max_age
        )

    def has(self, kid: str | None) -> bool:
        return self.keys.decoder(kid, "RS256") is not None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Issuer]:
        task = asyncio.ensure_future(self.keys.run())
        await asyncio.sleep(0.001 + self.seconds)
        yield self
        task.cancel()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("max_age", "seconds"), [(None, 300), (0, 60), (120, 120), (19_204, 3_600)]
)
def test_a_set_is_asked_for_again_after_as_long_as_its_server_says_within_bounds(
    max_age: float | None, seconds: float
) -> None:
    async def check() -> None:
        issuer = Issuer()
        issuer.max_age = max_age
        async with issuer.running():
            await asyncio.sleep(3 * seconds)
        assert issuer.asked_at == pytest.approx([0, seconds, 2 * seconds, 3 * seconds], abs=0.1)

    run_at_once(check())


def test_after_a_failure_it_is_asked_for_again_soon_and_then_less_and_less_often() -> None:
    async def check() -> None:
        issuer = Issuer()
        issuer.fails = True
        async with issuer.running():
            await asyncio.sleep(250)
            pauses = [b - a for a, b in zip(issuer.asked_at, issuer.asked_at[1:], strict=False)]
            assert pauses == pytest.approx([5, 10, 20, 40, 60, 60])
            assert not issuer.keys.loaded
            assert issuer.keys.age == pytest.approx(
                250, abs=1
            )  # and not as if they had just been had
            issuer.fails = False
            await asyncio.sleep(61)
            assert issuer.keys.loaded
        assert issuer.stats.jwks_refreshes == {"failed": 7, "loaded": 1}

    run_at_once(check())


def test_the_last_good_set_is_kept_through_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            issuer.fails = True
            await asyncio.sleep(7 * 86_400)
            assert issuer.has("a")
            assert issuer.keys.loaded
            assert issuer.keys.age == pytest.approx(7 * 86_400, abs=1)

    caplog.set_level("INFO")
    run_at_once(check())
    lines = [each for each in caplog.messages if each.startswith("jwks_unreachable")]
    assert lines[0] == "jwks_unreachable url_host=login.example age=300 reason='status 500'"
    # One a minute, whatever the number of attempts.
    assert len(lines) <= 7 * 86_400 / 60
    assert "hidden" not in caplog.text


def test_a_key_that_is_published_is_used_and_one_that_is_withdrawn_is_not() -> None:
    async def check() -> None:
        issuer = Issuer()
        changes: list[float] = []
        issuer.keys.changed = lambda: changes.append(now())
        async with issuer.running():
            issuer.kids = ["a", "b"]
            await asyncio.sleep(300)
            assert issuer.has("a")
            assert issuer.has("b")
            issuer.kids = ["b"]
            await asyncio.sleep(600)
            assert not issuer.has("a")
            assert issuer.has("b")
        # What is published again and again changes nothing.
        assert len(changes) == 3

    run_at_once(check())


def test_without_a_name_one_key_must_fit_alone() -> None:
    async def check() -> None:
        issuer = Issuer()
        assert issuer.keys.may_have(None)
        async with issuer.running():
            assert issuer.has(None)
            assert issuer.keys.decoder("a", "ES256") is None
            issuer.kids = ["a", "b"]
            await asyncio.sleep(300)
            assert not issuer.has(None)
            assert not issuer.keys.may_have(None)

    run_at_once(check())


# -- keys that are not known ----------------------------------------------------------------------


def test_a_key_that_was_published_a_moment_ago_is_learned_at_once() -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            await asyncio.sleep(20)
            issuer.kids = ["a", "b"]
            assert not issuer.has("b")
            await issuer.keys.learn()
            assert issuer.has("b")
            assert len(issuer.asked_at) == 2
            # And then as if that had been its time.
            await asyncio.sleep(299)
            assert len(issuer.asked_at) == 2
            await asyncio.sleep(2)
            assert len(issuer.asked_at) == 3

    run_at_once(check())


def test_all_who_wait_for_a_key_share_one_request() -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            await asyncio.sleep(20)
            issuer.seconds = 1
            issuer.kids = ["b"]
            await asyncio.gather(*(issuer.keys.learn() for _ in range(500)))
            assert issuer.has("b")
            assert len(issuer.asked_at) == 2

    run_at_once(check())


@pytest.mark.parametrize("fails", [False, True])
def test_a_key_that_somebody_has_made_up_makes_the_issuer_be_asked_once_in_ten_seconds(
    fails: bool,
) -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            await asyncio.sleep(20)
            issuer.fails = fails
            issuer.asked_at.clear()
            ends_at = now() + 60
            while now() < ends_at:
                await issuer.keys.learn()
                await asyncio.sleep(0.1)
            assert 6 <= len(issuer.asked_at) <= 7
            pauses = [b - a for a, b in zip(issuer.asked_at, issuer.asked_at[1:], strict=False)]
            assert min(pauses) >= (5 if fails else 9.99)

    run_at_once(check())


def test_who_would_wait_for_too_long_is_told_at_once() -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            for passed, waits in ((1, False), (3, False), (1.5, True)):
                await asyncio.sleep(passed)
                started = now()
                await issuer.keys.learn()
                assert (now() > started) == waits

    run_at_once(check())


def test_nobody_waits_longer_than_five_seconds_for_an_issuer_that_hangs() -> None:
    async def check() -> None:
        issuer = Issuer()
        async with issuer.running():
            await asyncio.sleep(20)
            issuer.seconds = 1_000
            started = now()
            await issuer.keys.learn()
            assert now() - started == pytest.approx(5)

    run_at_once(check())


def test_however_many_name_made_up_keys_whoever_has_a_new_one_waits_for_it_and_few_go_on_together() -> (
    None
):
    """All of them would hold up everybody in the turn in which the set comes."""

    async def check() -> None:
        issuer = Issuer()
        in_each_turn = Counter[int]()
        turn = 0

        async def come() -> None:
            await issuer.keys.learn()
            in_each_turn[turn] += 1

        async with issuer.running():
            await asyncio.sleep(20)
            issuer.seconds = 1
            waiting = [asyncio.ensure_future(come()) for _ in range(1_500)]
            await asyncio.sleep(0.5)
            issuer.kids = ["b"]
            last = asyncio.ensure_future(issuer.keys.learn())
            waiting[0].cancel()

            async def count() -> None:
                nonlocal turn
                while not last.done():
                    await asyncio.sleep(0)
                    turn += 1

            issuer.keys.changed = lambda: waiting.append(asyncio.ensure_future(count()))
            await last
            assert issuer.has("b")
        assert in_each_turn.total() == 1_499
        assert max(in_each_turn.values()) <= 100
        assert not issuer.keys._waiting

    run_at_once(check())


# -- discovery ------------------------------------------------------------------------------------

ISSUER = "https://login.example/tenant/"


class Discovering:
    """A place whose documents come one after the other; the last one for ever."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.time = 0.0
        self.place = DiscoveredPlace(ISSUER, self.fetch, lambda: self.time)

    async def fetch(self, url: str, most: int) -> Fetched:
        assert most == 64 * 1_024
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Fetched(answer)


GOOD = b'{"issuer": "https://login.example/tenant/", "jwks_uri": "https://keys.example/%d"}'


async def test_the_document_of_an_issuer_names_the_url_of_its_keys_for_an_hour() -> None:
    world = Discovering(GOOD % 1, GOOD % 2, GOOD % 3)
    assert await world.place.url() == "https://keys.example/1"
    assert world.asked == ["https://login.example/tenant/.well-known/openid-configuration"]
    world.time = 3_599
    assert await world.place.url() == "https://keys.example/1"
    world.time = 3_600
    assert await world.place.url() == "https://keys.example/2"
    world.place.doubt()
    assert await world.place.url() == "https://keys.example/3"


async def test_where_the_document_cannot_be_had_again_the_keys_stay_where_they_were() -> None:
    world = Discovering(NoKeys("status 500"), GOOD % 1, NoKeys("status 500"))
    with pytest.raises(NoKeys, match="discovery: status 500"):
        await world.place.url()
    assert await world.place.url() == "https://keys.example/1"
    world.time = 10_000
    assert await world.place.url() == "https://keys.example/1"
    # Nor does who waits for a key wait for the document each time.
    for seconds, asked in ((10_000, 3), (10_059, 3), (10_060, 4), (10_061, 4)):
        world.time = seconds
        assert await world.place.url() == "https://keys.example/1"
        assert len(world.asked) == asked


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "no document"),
        (
            b'{"issuer": "https://login.example/tenant", "jwks_uri": "https://keys.example/1"}',
            "names the issuer",
        ),
        (
            b'{"issuer": "https://login.example/{tenantid}/", "jwks_uri": "https://a.b"}',
            "names the issuer",
        ),
        (b'{"jwks_uri": "https://keys.example/1"}', "names the issuer"),
        (GOOD.replace(b"https://keys", b"http://keys") % 1, "jwks_uri is neither"),
        (GOOD.replace(b"https://keys.example/%d", b"file:///etc/passwd"), "jwks_uri is neither"),
        (GOOD.replace(b"https://keys.example", b"http://127.0.0.1") % 1, "is on this machine"),
        (GOOD.replace(b"keys.example", b"localhost") % 1, "is on this machine"),
        (b'{"issuer": "https://login.example/tenant/", "jwks_uri": 5}', "jwks_uri is neither"),
        (b'{"issuer": "https://login.example/tenant/"}', "jwks_uri is neither"),
    ],
)
async def test_a_document_that_is_not_this_issuers_is_not_believed(answer: bytes, why: str) -> None:
    with pytest.raises(NoKeys, match=why):
        await Discovering(answer).place.url()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://login.example/jwks", True),
        ("https://login.example:8443/jwks?a=b", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("http://127.1.2.3/jwks", True),
        ("http://[::1]/jwks", True),
        ("http://localhost/jwks", True),
        ("http://login.example/jwks", False),
        ("http://localhost.login.example/jwks", False),
        ("http://127.0.0.1.login.example/jwks", False),
        ("http://10.0.0.1/jwks", False),
        ("http://0.0.0.0/jwks", False),
        ("https://user:password@login.example/jwks", False),
        ("http://localhost@login.example/jwks", False),
        ("file:///etc/passwd", False),
        ("ftp://localhost/jwks", False),
        ("https:///jwks", False),
        ("//login.example/jwks", False),
        ("login.example/jwks", False),
        ("http://[::1/jwks", False),
        ("", False),
    ],
)
def test_keys_come_over_tls_or_from_this_machine(url: str, good: bool) -> None:
    assert is_trustworthy(url) is good
