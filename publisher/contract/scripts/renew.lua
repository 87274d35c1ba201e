-- Renews a user's leases. One that was lost is taken again while there is room, in the order given.
-- KEYS[1]  connections of a user
-- ARGV[1]  lease, ms   ARGV[2] limit   ARGV[3], ... members
-- Returns  the members that have no place
local key, left = KEYS[1], {}
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
for i = 3, #ARGV do
  if redis.call('ZSCORE', key, ARGV[i]) or redis.call('ZCARD', key) < tonumber(ARGV[2]) then
    redis.call('ZADD', key, now + ARGV[1], ARGV[i])
  else
    left[#left + 1] = ARGV[i]
  end
end
-- another node's lease may be longer
if redis.call('PTTL', key) < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
return left
