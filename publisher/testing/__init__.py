"""Publishers for tests: they do what the real ones do, without Redis, and keep what was published.

::

    from publisher.testing import RecordingPublisher

    publisher = RecordingPublisher()
    ship(order, publisher)
    assert publisher.published[0].data == {"orderId": 7, "status": "shipped"}
"""

from publisher.testing.publishers import AsyncRecordingPublisher, RecordingPublisher
from publisher.testing.recording import Recording
from publisher.testing.records import Disconnected, Granted, PublishedMessage

__all__ = [
    "AsyncRecordingPublisher",
    "Disconnected",
    "Granted",
    "PublishedMessage",
    "Recording",
    "RecordingPublisher",
]
