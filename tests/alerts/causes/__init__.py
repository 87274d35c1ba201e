"""All causes: importing this fills the table (``tests.alerts.cases``)."""

from tests.alerts.causes import clients as clients
from tests.alerts.causes import gateways as gateways
from tests.alerts.causes import keys as keys
from tests.alerts.causes import messages as messages
from tests.alerts.causes import redis_servers as redis_servers
from tests.alerts.causes import told_backends as told_backends
