-- Whether a user, or everybody, holds a grant that has not run out.
-- KEYS[1]  grants of the channel
-- ARGV[1]  user
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for _, who in ipairs({ARGV[1], '*'}) do
  local expiry = redis.call('ZSCORE', KEYS[1], who)
  if expiry and (expiry == 'inf' or tonumber(expiry) > now) then return 1 end
end
return 0
