"""A client of the gateway for asyncio, which connects again by itself and misses nothing that is kept (docs/receiver.md)."""

try:
    from gateway.client.errors import ConnectionEnded, ReceiverError, SubscriptionEnded
    from gateway.client.receiver import Receiver
    from gateway.client.subscription import Message, Subscription
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] in {"gateway", "publisher"}:
        raise
    raise ImportError(
        f"gateway.client needs {error.name}: run pip install '.[gateway]' in a checkout"
        ", or pip install 'FILE.whl[gateway]' with the wheel",
        name=error.name,
    ) from error

__all__ = [
    "ConnectionEnded",
    "Message",
    "Receiver",
    "ReceiverError",
    "Subscription",
    "SubscriptionEnded",
]
