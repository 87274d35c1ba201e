"""Certificates that end, and keys of an identity provider that cannot be had."""

from __future__ import annotations

import datetime as dt
from itertools import count

from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.certificates import Authority
from tests.support.client import connected, opened
from tests.support.identity_provider import IdentityProvider
from tests.support.waiting import until

_HERE = ("127.0.0.1",)


@causing("CertificateEnds", "a certificate that ends in three days")
async def certificate_ends(stage: Stage) -> None:
    stage.start_redis()
    authority = Authority(stage.folder)
    own = authority.sign("localhost", addresses=_HERE, lasts=dt.timedelta(days=3))
    gateway = await stage.gateway(tls_certificate=own.certificate, tls_key=own.key)
    await stage.watch(gateway)
    stage.caused()
    await stage.fires(port="clients")
    stage.tries("Look at what renews it.")
    authority.sign("localhost", addresses=_HERE, lasts=dt.timedelta(days=90))
    stage.tries("A renewed one is taken over without a restart.")
    await stage.resolves()
    await until(lambda: "tls_certificate_renewed" in gateway.output)


@causing("KeysNotRenewed", "the identity provider fails when it has changed its keys", speed=12)
async def keys_not_renewed(stage: Stage) -> None:
    stage.start_redis()
    provider = IdentityProvider()
    provider.publish("a")
    await stage.stack.enter_async_context(provider.running())
    gateway = await stage.gateway(
        jwt_secret=None,
        jwt_jwks_url=provider.jwks_url,
        jwt_issuer=provider.issuer,
        jwt_audience="us",
    )
    await stage.watch(gateway)
    users = count()

    async def come_with_a_new_token() -> None:
        async with opened(gateway.url, provider.token("b", f"user-{next(users)}")) as client:
            await client.receive()

    stage.caused()
    provider.trouble = "fails"
    stage.meanwhile(1.0, come_with_a_new_token)
    await stage.fires()
    stage.tries("`jwks_unreachable` in the log says why.")
    await until(lambda: "jwks_unreachable" in gateway.output)
    stage.tries("Users stay connected and come back, because the last keys stay in use.")
    async with connected(gateway.url, provider.token("a", "ann")):
        pass
    stage.tries("tokens that are signed with the new ones are refused with `token_key_unknown`")
    await until(lambda: "token_key_unknown" in gateway.output)
    stage.tries("Look at the way to the provider")
    provider.publish("a", "b")
    provider.trouble = None
    await stage.resolves()
    async with connected(gateway.url, provider.token("b", "ann")):
        pass
