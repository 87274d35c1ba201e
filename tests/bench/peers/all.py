"""All peers."""

from typing import Final

from tests.bench.peers.channels import channels
from tests.bench.peers.nats import nats
from tests.bench.peers.nchan import nchan
from tests.bench.peers.node import socket_io, ws

PEERS: Final = {
    "Nchan": nchan,
    "Node ws": ws,
    "Socket.IO": socket_io,
    "NATS": nats,
    "Django Channels": channels,
}
