-- Renews the lease of a node that tells of events, and names the nodes whose lease has run out.
-- KEYS[1]  nodes that tell of events, and when each lease ends; beside them "/beat": when any was renewed last
-- KEYS[2]  how many connections each user has   KEYS[3] the node's connections
-- ARGV[1]  node   ARGV[2] lease, ms   ARGV[3] so long without any renewal, ms, and it was Redis that was away
-- ARGV[4]  so long all may take then to renew, ms   ARGV[5] no lease is longer, ms   ARGV[6] how long all is kept, ms
-- Returns  {1 if the node has held its lease until now, else 0: others may have told of its end; dead node, ...}
local nodes, node = KEYS[1], ARGV[1]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
-- Written while the clock was ahead, perhaps by nodes that are dead by now: those that live renew it.
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', nodes, now + ARGV[5], '+inf')) do
  redis.call('ZADD', nodes, now + ARGV[2], ahead)
end
local renewed = redis.call('ZSCORE', nodes, '/beat')
if renewed and now - renewed > tonumber(ARGV[3]) then
  -- Nobody could renew a lease: that they have run out proves nothing, until all have had the time.
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now + ARGV[4])) do
    redis.call('ZADD', nodes, now + ARGV[4], each)
  end
end
local expiry = redis.call('ZSCORE', nodes, node)
local held = expiry and tonumber(expiry) > now and 1 or 0
redis.call('ZADD', nodes, now + ARGV[2], node, now, '/beat')
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[6]) end
local reply = {held}
for _, each in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now)) do
  if each ~= '/beat' then reply[#reply + 1] = each end
end
return reply
