-- Renews a node's lease.
-- KEYS[1]  nodes
-- ARGV[1]  node   ARGV[2] lease, ms   ARGV[3] how long a dead node is remembered, ms
-- Returns  1 if the node has held its lease until now, else 0: others may have thought it dead
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return expiry and tonumber(expiry) > now and 1 or 0
