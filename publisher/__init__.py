"""Publish messages to users' browsers and apps.

::

    from publisher import Publisher

    with Publisher.from_url("redis://localhost:6379/0") as publisher:
        publisher.notify("user-456", title="Hello", message="Your code has run")
"""

import logging

from publisher.async_client import AsyncPublisher
from publisher.client import Publisher
from publisher.contract.channels import Namespace, Owner, Presence, Retention
from publisher.contract.events import Event
from publisher.contract.grants import EVERYBODY, Everybody
from publisher.contract.node_report import NodeReport
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
from publisher.events import AsyncEvents, Events
from publisher.records import (
    Connection,
    Entry,
    Node,
    Outgoing,
    Published,
    Receipt,
    Scheduled,
)
from publisher.redis_address import NoRedis

__all__ = [
    "EVERYBODY",
    "AsyncEvents",
    "AsyncPublisher",
    "Connection",
    "Entry",
    "Event",
    "Events",
    "Everybody",
    "GrantWithoutEffect",
    "InvalidChannel",
    "InvalidData",
    "InvalidInput",
    "InvalidNamespace",
    "InvalidURL",
    "MessageTooLarge",
    "Namespace",
    "NoRedis",
    "Node",
    "NodeReport",
    "NotReplicated",
    "Outgoing",
    "Owner",
    "Presence",
    "Published",
    "Publisher",
    "PublisherError",
    "Receipt",
    "Rejected",
    "Retention",
    "Scheduled",
    "Unavailable",
    "UnknownNamespace",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
