-- Takes one of a user's places, counted across the cluster, unless the token that asks for it is revoked.
-- KEYS[1]  connections of the user   KEYS[2] before which time their tokens are revoked
-- ARGV[1]  member "<node>/<connection>"   ARGV[2] limit   ARGV[3] lease, ms   ARGV[4] no lease is longer, ms
-- ARGV[5]  when the token was issued, seconds since 1970; "" for a token that does not say, "-" where no token asks
-- ARGV[6], ARGV[7], ...  members that nobody holds any more and the expiry each was seen with: dropped
--          first, unless renewed since
-- Returns  {1, now in us} when the place was taken, {2} when the token is revoked, else 0 and all holders:
--          {0, member, expiry, member, ...}
local key, member, issued = KEYS[1], ARGV[1], ARGV[5]
if issued ~= '-' then
  local before = redis.call('GET', KEYS[2])
  if before and (issued == '' or tonumber(issued) < tonumber(before)) then return {2} end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('ZCARD', key)
if held > 0 then held = held - redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
for i = 6, #ARGV, 2 do
  if redis.call('ZSCORE', key, ARGV[i]) == ARGV[i + 1] then held = held - redis.call('ZREM', key, ARGV[i]) end
end
if held >= tonumber(ARGV[2]) and not redis.call('ZSCORE', key, member) then
  -- Written while the clock was ahead. Who holds it renews it; nobody else is to hold it for so long.
  for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', key, now + ARGV[4], '+inf')) do
    redis.call('ZADD', key, now + ARGV[3], ahead)
  end
  local holders = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  table.insert(holders, 1, 0)
  return holders
end
redis.call('ZADD', key, now + ARGV[3], member)
if held == 0 then
  redis.call('PEXPIRE', key, ARGV[3])
else
  redis.call('PEXPIRE', key, ARGV[3], 'GT')  -- another node's lease may be longer
end
return {1, time[1] * 1000000 + time[2]}
