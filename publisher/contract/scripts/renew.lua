-- Renews a user's leases, and says what has ended connections and tokens of theirs. A lease that was lost is taken
-- again while there is room, in the order given.
-- KEYS[1]  connections of a user   KEYS[2] before which time their tokens are revoked   KEYS[3] what was disconnected
-- KEYS[4]  only where the oldest connection gives way: when each came
-- ARGV[1]  lease, ms   ARGV[2] limit   ARGV[3] no lease is longer, ms   ARGV[4] "<node>/"
-- ARGV[5]  when the oldest of these connections came, us; "" for no connection
-- ARGV[6], ...  members, all of this node; with KEYS[4] behind each when it came, us
-- Returns  {the members that have no place}, {this node's members that were not given},
--          {before or "", entry, when in us, entry, ...} of all disconnects since the oldest came
local key, node, entered = KEYS[1], ARGV[4], KEYS[4]
local given, left, others = {}, {}, {}
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
for i = 6, #ARGV, entered and 2 or 1 do
  given[ARGV[i]] = true
  if redis.call('ZSCORE', key, ARGV[i]) or redis.call('ZCARD', key) < tonumber(ARGV[2]) then
    redis.call('ZADD', key, now + ARGV[1], ARGV[i])
    if entered then redis.call('ZADD', entered, 'NX', ARGV[i + 1], ARGV[i]) end
  else
    left[#left + 1] = ARGV[i]
  end
end
local held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
for i = 1, #held, 2 do
  if string.sub(held[i], 1, #node) == node and not given[held[i]] then
    others[#others + 1] = held[i]
  end
  -- Written while the clock was ahead. Who holds it renews it; nobody else is to hold it for so long.
  if held[i + 1] - now > tonumber(ARGV[3]) then redis.call('ZADD', key, now + ARGV[1], held[i]) end
end
if entered then
  -- Of places that ran out, or were dropped as a dead node's, nobody has said so there.
  for _, each in ipairs(redis.call('ZRANGE', entered, 0, -1)) do
    if not redis.call('ZSCORE', key, each) then redis.call('ZREM', entered, each) end
  end
  redis.call('PEXPIRE', entered, ARGV[3])
end
-- another node's lease may be longer
if redis.call('PTTL', key) < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
local ended = {}
if ARGV[5] ~= '' then
  -- What stands ahead of the clock was written while that was ahead, and would end whoever comes from now on.
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. string.format('%.0f', (now + 1) * 1000), '+inf')
  ended = redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[5], '+inf', 'WITHSCORES')
  table.insert(ended, 1, redis.call('GET', KEYS[2]) or '')
end
return {left, others, ended}
