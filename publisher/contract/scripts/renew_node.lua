-- Renews a node's lease.
-- KEYS[1]  nodes; beside them "/beat": when any node last renewed its lease, and "/grace": until when
--          no node counts as gone
-- ARGV[1]  node   ARGV[2] lease, ms   ARGV[3] how long a dead node is remembered, ms
-- ARGV[4]  so long without any renewal, ms, and it was Redis that was away   ARGV[5] the grace then, ms
-- ARGV[6]  no lease is longer, ms
-- Returns  1 if the node has held its lease until now, else 0: others may have thought it dead
local nodes = KEYS[1]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local expiry, renewed, grace = unpack(redis.call('ZMSCORE', nodes, ARGV[1], '/beat', '/grace'))
-- First, because this is to fail when Redis is out of memory: after any other write Redis would allow it.
redis.call('ZADD', nodes, now + ARGV[2], ARGV[1], now, '/beat')
-- Written while the clock was ahead, perhaps by nodes that are dead by now: those that live renew it.
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', nodes, now + ARGV[6], '+inf')) do
  redis.call('ZADD', nodes, now + ARGV[2], ahead)
end
if grace and grace - now > tonumber(ARGV[5]) then
  grace = now + ARGV[5]
  redis.call('ZADD', nodes, grace, '/grace')
end
if renewed and now - renewed > tonumber(ARGV[4]) then
  -- Nobody could renew a lease: that they have run out proves nothing, until all have had the time.
  grace = now + ARGV[5]
  redis.call('ZADD', nodes, grace, '/grace')
end
if not grace or tonumber(grace) <= now then
  redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now - ARGV[3])
end
return expiry and tonumber(expiry) > now and 1 or 0
