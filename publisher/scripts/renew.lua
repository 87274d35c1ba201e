-- Renews leases that are still held, and tells which are not.
-- KEYS[1]  connections of a user
-- ARGV[1]  lease, ms   ARGV[2], ... members
-- Returns  the members that have lost their place
local key, lost = KEYS[1], {}
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for i = 2, #ARGV do
  local expiry = redis.call('ZSCORE', key, ARGV[i])
  if expiry and tonumber(expiry) > now then
    redis.call('ZADD', key, now + ARGV[1], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
-- another node's lease may be longer
if redis.call('PTTL', key) < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
return lost
