"""Checks of the sections "Subscriptions", "Channel tokens" and "Who is in a channel"."""

from __future__ import annotations

import time
from typing import Final

from gateway.conformance.line import Line
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Skipped, expect

_SUBSCRIPTIONS: Final = 105
"""A few more than a connection may have by default."""


async def _refused(line: Line, channel: str, *codes: str, **fields: str) -> None:
    line.send({"type": "subscribe", "channel": channel, **fields})
    answer = await line.next("subscribed", "error")
    expect(
        answer["type"] == "error" and answer.get("code") in codes,
        f"{channel} is answered with {answer['type']} {answer.get('code', '')}",
    )


async def _ended(line: Line, reason: str, seconds: float | None = None) -> None:
    told = await line.next("unsubscribed", seconds=seconds)
    expect(told.get("reason") == reason, f"it ends with the reason {told.get('reason')}")


@check("S-401", "a subscribe is answered with subscribed or error")
async def answered(stage: Stage) -> None:
    """One of each."""
    line = await stage.listen()
    await _refused(line, f"notifications/{stage.user}-other", "forbidden")


@check("S-402", "a second subscribe is answered, and messages come once")
async def twice(stage: Stage) -> None:
    """On one connection."""
    line = await stage.listen()
    await stage.subscribe(line, stage.own)
    await stage.data(line, await stage.publish("once"))
    await stage.data(line, await stage.publish("then"))


@check("S-403", "an unsubscribe is answered, also without a subscription")
async def unsubscribe(stage: Stage) -> None:
    """Before and after."""
    line = await stage.connect()
    for _ in range(2):
        line.send({"type": "unsubscribe", "channel": stage.own})
        told = await line.next("unsubscribed", "error")
        expect(
            (told["type"], told.get("channel")) == ("unsubscribed", stage.own),
            f"it is answered with {told}",
        )
        await stage.subscribe(line, stage.own)


@check("S-404", "after unsubscribed nothing of the channel comes")
async def silent_afterwards(stage: Stage) -> None:
    """Until another subscribe."""
    line = await stage.listen()
    line.send({"type": "unsubscribe", "channel": stage.own})
    await line.next("unsubscribed")
    id_ = await stage.publish("not now")
    # What was published has been passed on before the answer to a later subscribe, behind which it is replayed.
    line.send({"type": "subscribe", "channel": stage.own})
    await line.until("subscribed", never="notifications")
    await stage.data(line, id_)


@check("S-405", "a channel that nothing allows is forbidden, whether or not it exists")
async def forbidden(stage: Stage) -> None:
    """Somebody else's channel with and without a message."""
    line = await stage.connect()
    await stage.publish("there is something", f"run-results/{stage.user}-full")
    for channel in (
        f"run-results/{stage.user}-full",
        f"run-results/{stage.user}-empty",
        f"notifications/{stage.user}-other",
        f"conformance-no-such-namespace/{stage.user}",
    ):
        await _refused(line, channel, "forbidden")


@check("S-406", "the token's claim, a grant and one's own notifications open channels")
async def allowed(stage: Stage) -> None:
    """Each way once."""
    named = f"run-results/{stage.user}-named"
    line = await stage.connect(stage.signer.token(stage.user, channels=[named]))
    await stage.subscribe(line, named)
    await stage.grant(stage.granted)
    await stage.subscribe(line, stage.granted)
    await stage.subscribe(line, stage.own)


@check("S-407", "above 100 channels a subscribe is answered with too_many_subscriptions")
async def too_many(stage: Stage) -> None:
    """105 channels that the token names."""
    names = [f"run-results/{stage.user[12:20]}-{number}" for number in range(_SUBSCRIPTIONS)]
    line = await stage.connect(stage.signer.token(stage.user, channels=names))
    for name in names:
        line.send({"type": "subscribe", "channel": name})
    answers = [await line.next("subscribed", "error") for _ in names]
    codes = [each["code"] for each in answers if each["type"] == "error"]
    if not codes:
        raise Skipped(f"{_SUBSCRIPTIONS} subscriptions are borne: the limit is higher here")
    expect(set(codes) == {"too_many_subscriptions"}, f"they are answered with {sorted(set(codes))}")
    line.send({"type": "heartbeat"})
    await line.next("heartbeat")


@check("S-408", "a subscription ends when its access does, and nothing comes after it")
async def access_ends(stage: Stage) -> None:
    """A grant that is taken back, and one whose time is over."""
    await stage.grant(stage.granted)
    line = await stage.listen(stage.granted)
    await stage.deployment.backend.revoke(stage.granted, stage.user)
    await _ended(line, "revoked")
    await stage.publish("not for you", stage.granted)
    # As above: what has come nevertheless has come before the answer.
    await stage.grant(stage.granted)
    line.send({"type": "subscribe", "channel": stage.granted})
    await line.until("subscribed", never="run-results")
    short = f"{stage.granted}-short"
    await stage.grant(short, 2)
    await stage.subscribe(line, short)
    await _ended(line, "expired")


@check("S-411", "a channel that was refused and is granted then is told with granted")
async def granted(stage: Stage) -> None:
    """Refused, granted, told, subscribed."""
    line = await stage.connect()
    await _refused(line, stage.granted, "forbidden")
    await stage.grant(stage.granted)
    told = await line.next("granted")
    expect(told.get("channel") == stage.granted, f"granted names {told.get('channel')}")
    await stage.subscribe(line, stage.granted)


def _channel_token(stage: Stage, user: str, channel: str, seconds: float = 600) -> str:
    return stage.signer.token(
        user, header={"typ": "channel+jwt"}, channel=channel, exp=int(time.time() + seconds)
    )


@check("S-421", "a channel token opens its channel, and a bad one does not")
async def channel_token(stage: Stage) -> None:
    """With ``subscribe``."""
    line = await stage.connect()
    await _refused(line, stage.granted, "token_invalid", token="no.channel.token")  # noqa: S106 - none
    old = _channel_token(stage, stage.user, stage.granted, -3_600)
    await _refused(line, stage.granted, "token_expired", token=old)
    good = _channel_token(stage, stage.user, stage.granted)
    await stage.subscribe(line, stage.granted, token=good)


@check(
    "S-422", "a channel token opens no connection, no other channel, and nothing to another user"
)
async def channel_token_elsewhere(stage: Stage) -> None:
    """Each once."""
    token = _channel_token(stage, stage.user, stage.granted)
    refused = await stage.open(token)
    end = await refused.end()
    expect(end.reason == "token_invalid", f"a connection with it ends with {end}")
    line = await stage.connect()
    codes = ("token_invalid", "forbidden")
    await _refused(line, f"{stage.granted}-other", *codes, token=token)
    others = _channel_token(stage, f"{stage.user}-other", stage.granted)
    await _refused(line, stage.granted, *codes, token=others)


@check("S-423", "a subscription ends with its channel token")
async def channel_token_ends(stage: Stage) -> None:
    """A token of three seconds, and the leeway."""
    line = await stage.connect()
    token = _channel_token(stage, stage.user, stage.granted, 3)
    await stage.subscribe(line, stage.granted, token=token)
    await _ended(line, "expired", 40)


async def _presence(stage: Stage, line: Line) -> dict[str, object]:
    line.send({"type": "presence", "channel": stage.own})
    return await line.next("presence", "error")


@check("S-431", "presence is refused where one is not, or where there is none")
async def presence_refused(stage: Stage) -> None:
    """In the user's own channel, which has none unless somebody has set it."""
    line = await stage.connect()
    told = await _presence(stage, line)
    expect(
        told.get("code") in {"not_subscribed", "no_presence"},
        f"before the subscribe it is answered with {told}",
    )
    await stage.subscribe(line, stage.own)
    told = await _presence(stage, line)
    expect(
        told["type"] == "presence" or told.get("code") == "no_presence",
        f"it is answered with {told}",
    )


@check("S-432", "presence names who is in the channel, oneself too, each once")
async def presence(stage: Stage) -> None:
    """Where the user's own channel has it."""
    line = await stage.listen()
    told = await _presence(stage, line)
    if told.get("code") == "no_presence":
        raise Skipped("the namespace notifications has no presence here")
    expect(told.get("users") == [stage.user], f"in one's own channel are {told.get('users')}")
