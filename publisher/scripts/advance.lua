-- Moves what users have confirmed in a channel; only ever forward.
-- KEYS[1]  seen
-- ARGV[1]  time to live of the whole hash, seconds
-- ARGV[2], ARGV[3], ...  user, id, user, id, ...
local seen = KEYS[1]
for i = 2, #ARGV, 2 do
  local before = redis.call('HGET', seen, ARGV[i])
  if not before or tonumber(before) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', seen, ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', seen, ARGV[1])
return redis.status_reply('OK')
