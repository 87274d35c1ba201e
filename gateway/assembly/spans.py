"""Where a node's spans go, if it makes any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.assembly.shared import VERSION
from gateway.settings import Settings, UsageError

if TYPE_CHECKING:
    from gateway.tracing import Exporter


def exporter(settings: Settings, node: str) -> Exporter | None:
    """What sends them, where ``GATEWAY_TRACING`` is on.

    Raises:
        UsageError: it cannot be made as the variables of OpenTelemetry say.
    """
    if not settings.tracing:
        return None
    # Nobody else pays for what it loads.
    from gateway.tracing import Exporter  # noqa: PLC0415

    try:
        return Exporter(node, VERSION)
    except ValueError as error:
        raise UsageError(f"a variable OTEL_… cannot be used: {error}") from None
