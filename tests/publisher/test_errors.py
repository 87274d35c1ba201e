from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable

import pytest

import publisher
from publisher.errors import (
    GrantWithoutEffect,
    InvalidChannel,
    InvalidData,
    InvalidInput,
    InvalidNamespace,
    InvalidURL,
    MessageTooLarge,
    NotReplicated,
    PublisherError,
    Rejected,
    Unavailable,
    UnknownNamespace,
)
from publisher.redis_address import NoRedis

TOO_FEW = NotReplicated(
    "why", id=17, channel="c/1", duplicate=False, replicas=1, min_replicas=2, retryable=False
)


def test_there_is_one_root():
    errors = [
        each
        for name in publisher.__all__
        if isinstance(each := getattr(publisher, name), type) and issubclass(each, Exception)
    ]
    assert len(errors) == 13
    assert all(issubclass(each, PublisherError) for each in errors)


def test_invalid_input_is_a_value_error_that_sent_nothing():
    error = InvalidURL("the port")
    assert isinstance(error, InvalidInput)
    assert isinstance(error, ValueError)
    assert not error.retryable
    assert not error.maybe_sent


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            Unavailable("refused", maybe_sent=False),
            "Redis is unavailable (refused); the call had no effect",
        ),
        (
            Unavailable("cut", maybe_sent=True),
            "Redis is unavailable (cut); the call may have taken effect",
        ),
        (
            Unavailable("no answer in time", maybe_sent=False, server="a:1"),
            "Redis is unavailable (a:1: no answer in time); the call had no effect",
        ),
        (
            Unavailable("a:1 refused", maybe_sent=False, server="a:1"),
            "Redis is unavailable (a:1 refused); the call had no effect",
        ),
        (Rejected("no", maybe_sent=False), "Redis rejected the call (no); the call had no effect"),
    ],
)
def test_unavailable_says_what_is_known_in_words_that_fit_every_call(error: Unavailable, text: str):
    assert str(error) == text


def test_only_what_may_pass_is_retryable():
    assert Unavailable("x", maybe_sent=True).retryable
    assert not Rejected("x", maybe_sent=True).retryable


def test_a_message_on_too_few_replicas_is_said_to_be_published():
    assert str(TOO_FEW) == "message 17 of c/1 is published, but only 1 of 2 replicas have it (why)"
    assert isinstance(TOO_FEW, Unavailable)
    assert TOO_FEW.maybe_sent
    assert (TOO_FEW.id, TOO_FEW.replicas, TOO_FEW.min_replicas) == (17, 1, 2)


def test_errors_carry_data():
    assert (MessageTooLarge(3, 2).size, MessageTooLarge(3, 2).limit) == (3, 2)
    error = UnknownNamespace("c", ["b", "a"])
    assert (error.namespace, error.known) == ("c", ("a", "b"))
    assert "GATEWAY_NAMESPACES" in str(error)


TRAVELLERS = [
    InvalidChannel("a"),
    InvalidData("no"),
    InvalidNamespace("no"),
    InvalidURL("the port"),
    MessageTooLarge(3, 2),
    NoRedis(),
    UnknownNamespace("c", ["a"]),
    GrantWithoutEffect("notifications/u", "user"),
    Unavailable("cut", maybe_sent=True),
    Unavailable("refused", maybe_sent=False, server="a:1"),
    Rejected("no", maybe_sent=True),
    TOO_FEW,
]


def as_celery_sends_it(error: Exception) -> Exception:
    """As Celery's JSON result backend stores an error and makes it anew.

    ``prepare_exception`` and ``exception_to_python`` in ``celery.backends.base``: the class by module and name,
    called with ``args``, or with their ``repr`` where they are nothing for JSON.
    """
    kind = type(error)
    stored = json.loads(
        json.dumps(
            {
                "exc_type": getattr(kind, "__qualname__", kind.__name__),
                "exc_message": error.args,
                "exc_module": kind.__module__,
            }
        )
    )
    found: type[Exception] = getattr(sys.modules[stored["exc_module"]], stored["exc_type"])
    return found(*stored["exc_message"])


@pytest.mark.parametrize(
    "travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, as_celery_sends_it]
)
@pytest.mark.parametrize("error", TRAVELLERS, ids=lambda error: type(error).__name__)
def test_errors_travel_between_processes(
    error: PublisherError, travel: Callable[[Exception], Exception]
):
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
