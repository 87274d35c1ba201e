"""All endpoints of the HTTP API but the one that describes them."""

from __future__ import annotations

from typing import Final

from gateway.api import access, publishing, reading
from gateway.api.asking import Endpoint
from gateway.api.keys import Scope

_PUBLISH, _GRANT, _READ, _DISCONNECT = Scope.PUBLISH, Scope.GRANT, Scope.READ, Scope.DISCONNECT

ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/publish",
        "Publish a message",
        _PUBLISH,
        publishing.publish,
        publishing.PUBLISHED_OR_SCHEDULED,
        body=publishing.MESSAGE,
        most=publishing.MOST_BODY_BYTES,
        keyed=True,
    ),
    Endpoint(
        "POST",
        "/v1/publish-many",
        "Publish messages, one a line; each line of the answer is the outcome of one, in order",
        _PUBLISH,
        publishing.publish_many,
        publishing.PUBLISHED,
        lines=publishing.LINE,
        most=publishing.MOST_BODY_BYTES,
    ),
    Endpoint(
        "POST",
        "/v1/broadcast",
        "Publish the same data in many channels, or as a notification to many users",
        _PUBLISH,
        publishing.broadcast,
        publishing.RESULTS,
        body=publishing.BROADCAST,
        most=publishing.MOST_BROADCAST_BYTES,
        keyed=True,
    ),
    Endpoint(
        "DELETE",
        "/v1/scheduled/{scheduled}",
        "Take back what is to be published later",
        _PUBLISH,
        publishing.cancel,
        publishing.CANCELLED,
    ),
    Endpoint(
        "DELETE",
        "/v1/messages/{namespace}/{id}",
        "Take a message out of its channel",
        _PUBLISH,
        publishing.delete,
        publishing.DELETED,
        query=publishing.WHICH,
    ),
    Endpoint(
        "GET",
        "/v1/receipts/{namespace}/{id}",
        "Who has confirmed a message",
        _READ,
        reading.receipts,
        reading.RECEIPTS,
        query=publishing.WHICH,
    ),
    Endpoint(
        "PUT",
        "/v1/grants",
        "Let a user, or everybody, subscribe to a channel",
        _GRANT,
        access.grant,
        body=access.GRANT,
        problems=frozenset({409}),
    ),
    Endpoint(
        "DELETE",
        "/v1/grants",
        "Take a grant back, and end the subscriptions that it allowed",
        _GRANT,
        access.revoke,
        access.REVOKED,
        query=access.GRANTEE,
        problems=frozenset({409}),
    ),
    Endpoint(
        "POST",
        "/v1/disconnect",
        "End a user's connections, or one of them",
        _DISCONNECT,
        access.disconnect,
        body=access.DISCONNECT,
    ),
    Endpoint(
        "POST",
        "/v1/revoke-token",
        "Let nobody in with a token, or with a user's older tokens, and end their connections",
        _DISCONNECT,
        access.revoke_token,
        body=access.TOKEN,
    ),
    Endpoint(
        "DELETE",
        "/v1/users/{user}",
        "Erase what Redis holds of a user, and end their connections",
        _DISCONNECT,
        access.forget,
    ),
    Endpoint(
        "GET",
        "/v1/history/{namespace}/{id}",
        "The retained messages of a channel, oldest first",
        _READ,
        reading.history,
        reading.MESSAGES,
        query=reading.HISTORY_QUERY,
    ),
    Endpoint(
        "GET",
        "/v1/channels/{namespace}/{id}",
        "The users who are in a channel, on all nodes",
        _READ,
        reading.channel,
        reading.CHANNEL,
    ),
    Endpoint(
        "GET",
        "/v1/connections/{user}",
        "A user's live connections on all nodes",
        _READ,
        reading.connections,
        reading.CONNECTIONS,
    ),
    Endpoint("GET", "/v1/nodes", "All living gateways", _READ, reading.nodes, reading.NODES),
    Endpoint("GET", "/v1/stats", "All gateways together", _READ, reading.stats, reading.STATS),
)
