"""Whether a deployment keeps to ``docs/protocol.md``, looked at from outside and through all its proxies."""
