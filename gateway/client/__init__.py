"""A client of the gateway for asyncio, which connects again by itself and misses nothing that is kept (docs/receiver.md)."""

from gateway.client.errors import ConnectionEnded, ReceiverError, SubscriptionEnded
from gateway.client.receiver import Receiver
from gateway.client.subscription import Message, Subscription

__all__ = [
    "ConnectionEnded",
    "Message",
    "Receiver",
    "ReceiverError",
    "Subscription",
    "SubscriptionEnded",
]
