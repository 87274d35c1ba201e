-- Notes who is in a channel on a node, and who is not any more; drops all whose lease has run out.
-- KEYS[1]  presence of the channel
-- ARGV[1]  lease, ms   ARGV[2] no lease is longer, ms   ARGV[3] how many of the members are there
-- ARGV[4], ...  members "<node>/<user>", first those that are there
-- Returns  nothing
local key, lease, there = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
-- Written while the clock was ahead. Whoever is there renews it; nobody else is to be there for so long.
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', key, now + ARGV[2], '+inf')) do
  redis.call('ZADD', key, now + lease, ahead)
end
if there > 0 then
  local pairs = {}
  for i = 4, 3 + there do
    pairs[#pairs + 1] = now + lease
    pairs[#pairs + 1] = ARGV[i]
  end
  redis.call('ZADD', key, unpack(pairs))
end
if #ARGV > 3 + there then redis.call('ZREM', key, unpack(ARGV, 4 + there)) end
-- another node's lease may be longer
if redis.call('PTTL', key) < lease then redis.call('PEXPIRE', key, lease) end
