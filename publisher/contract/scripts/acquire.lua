-- Takes one of a user's places, counted across the cluster.
-- KEYS[1]  connections of the user
-- ARGV[1]  member "<node>/<connection>"   ARGV[2] limit   ARGV[3] lease, ms
-- ARGV[4], ARGV[5], ...  members of dead nodes and the expiry each was seen with: dropped first,
--          unless renewed since
-- Returns  an empty list when the place was taken, else all holders: {member, expiry, member, ...}
local key, member = KEYS[1], ARGV[1]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
for i = 4, #ARGV, 2 do
  if redis.call('ZSCORE', key, ARGV[i]) == ARGV[i + 1] then redis.call('ZREM', key, ARGV[i]) end
end
if not redis.call('ZSCORE', key, member) and redis.call('ZCARD', key) >= tonumber(ARGV[2]) then
  return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
end
redis.call('ZADD', key, now + ARGV[3], member)
-- another node's lease may be longer
if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
return {}
