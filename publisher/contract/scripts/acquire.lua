-- Takes one of a user's places, counted across the cluster.
-- KEYS[1]  connections of the user
-- ARGV[1]  member "<node>/<connection>"   ARGV[2] limit   ARGV[3] lease, ms   ARGV[4] no lease is longer, ms
-- ARGV[5], ARGV[6], ...  members that nobody holds any more and the expiry each was seen with: dropped
--          first, unless renewed since
-- Returns  an empty list when the place was taken, else all holders: {member, expiry, member, ...}
local key, member = KEYS[1], ARGV[1]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local held = redis.call('ZCARD', key)
if held > 0 then held = held - redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
for i = 5, #ARGV, 2 do
  if redis.call('ZSCORE', key, ARGV[i]) == ARGV[i + 1] then held = held - redis.call('ZREM', key, ARGV[i]) end
end
if held >= tonumber(ARGV[2]) and not redis.call('ZSCORE', key, member) then
  -- Written while the clock was ahead. Who holds it renews it; nobody else is to hold it for so long.
  for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', key, now + ARGV[4], '+inf')) do
    redis.call('ZADD', key, now + ARGV[3], ahead)
  end
  return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
end
redis.call('ZADD', key, now + ARGV[3], member)
if held == 0 then
  redis.call('PEXPIRE', key, ARGV[3])
else
  redis.call('PEXPIRE', key, ARGV[3], 'GT')  -- another node's lease may be longer
end
return {}
