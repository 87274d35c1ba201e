"""The whole matrix of who may subscribe to what."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.core.access import Decision, Identity, decide
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace, Owner, parse_channel

NAMESPACES = {
    "inbox": Namespace("inbox", Owner.USER),
    "runs": Namespace("runs", Owner.GRANT),
    "news": Namespace("news", Owner.ANYONE),
}
CLAIMS = {
    "none": frozenset[str](),
    "exact": frozenset({"inbox/ann", "inbox/bob", "runs/ann", "runs/bob", "news/ann", "news/bob"}),
    "namespace": frozenset({"inbox/*", "runs/*", "news/*"}),
}


def judge(user: str, channel: str, claims: frozenset[str] = frozenset()) -> Decision:
    return decide(Identity(user, claims), parse_channel(channel), NAMESPACES)


@pytest.mark.parametrize(("claims", "id_"), list(product(CLAIMS, ("ann", "bob"))))
def test_a_users_own_channel_is_open_to_that_user_alone_whatever_a_token_claims(
    claims: str, id_: str
) -> None:
    expected = Decision.ALLOWED if id_ == "ann" else Decision.DENIED
    assert judge("ann", f"inbox/{id_}", CLAIMS[claims]) is expected


@pytest.mark.parametrize(("claims", "id_"), list(product(CLAIMS, ("ann", "bob"))))
def test_a_granted_channel_is_open_by_claim_and_else_by_grant(claims: str, id_: str) -> None:
    expected = Decision.IF_GRANTED if claims == "none" else Decision.ALLOWED
    assert judge("ann", f"runs/{id_}", CLAIMS[claims]) is expected


@pytest.mark.parametrize(("claims", "id_"), list(product(CLAIMS, ("ann", "bob"))))
def test_a_public_channel_is_open_to_everybody(claims: str, id_: str) -> None:
    assert judge("ann", f"news/{id_}", CLAIMS[claims]) is Decision.ALLOWED


@pytest.mark.parametrize("claim", ["other/ann", "other/*", "*", "*/*", "*/ann"])
def test_a_namespace_nobody_configured_is_denied_whatever_a_token_claims(claim: str) -> None:
    assert judge("ann", "other/ann", frozenset({claim})) is Decision.DENIED


@pytest.mark.parametrize(
    "claim", ["runs/b", "runs/bobb", "runs/b*", "RUNS/bob", "runs", "runs/", "*", "*/*", "run*/*"]
)
def test_a_claim_is_an_exact_name_or_a_whole_namespace(claim: str) -> None:
    assert judge("ann", "runs/bob", frozenset({claim})) is Decision.IF_GRANTED


@pytest.mark.parametrize("user", ["Ann", "ann ", "an", "ann2", "inbox/ann", "*"])
def test_user_ids_are_compared_exactly(user: str) -> None:
    assert judge(user, "inbox/ann") is Decision.DENIED


def test_a_claim_in_another_namespace_opens_nothing_here() -> None:
    assert judge("ann", "runs/bob", frozenset({"inbox/bob", "news/*"})) is Decision.IF_GRANTED


def test_the_default_namespaces_are_as_the_seed_describes_them() -> None:
    def default(user: str, channel: str) -> Decision:
        return decide(Identity(user), parse_channel(channel), DEFAULT_NAMESPACES)

    assert default("user-456", "notifications/user-456") is Decision.ALLOWED
    assert default("user-456", "notifications/user-789") is Decision.DENIED
    assert default("user-456", "run-results/session-123") is Decision.IF_GRANTED
    assert default("user-456", "anything/else") is Decision.DENIED
