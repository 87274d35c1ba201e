-- Notes what users have confirmed in a channel: forward only, and only what the channel's log knows of.
-- KEYS[1]  confirmed   KEYS[2] last   KEYS[3] log   KEYS[4] tombstones
-- ARGV[1]  how long positions are kept, seconds
-- ARGV[2], ARGV[3], ...  id, user, id, user, ...
local confirmed, last, log, removed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local newest = redis.call('GET', last) or redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2]
local answers = {}

-- Whether a tombstone stands for it (message.py): it names those that it has room for, from the newest on.
local function taken_out(id)
  local above = redis.call('ZRANGEBYSCORE', removed, id, '+inf', 'LIMIT', 0, 1)[1]
  local newest_there, first, nonces = string.match(above or '', '^(%d+):%d+:(%d+)|([^:]*)')
  if not first or tonumber(first) > tonumber(id) then return false end
  if id == newest_there or id == first or string.find(nonces, ',' .. id .. '=', 1, true) then return true end
  local oldest_named = string.match(nonces, '.*,(%d+)=') or newest_there
  return #nonces >= 1000 and tonumber(id) < tonumber(oldest_named)
end

-- A failover to a replica may have lost the message, and another one may have an id above it by now.
local function known(id)
  if answers[id] == nil then
    answers[id] = not newest or id == newest or tonumber(id) < tonumber(newest) and (
      redis.call('ZCOUNT', log, id, id) > 0
      or redis.call('ZCOUNT', log, '-inf', id) == 0
      or taken_out(id))
  end
  return answers[id]
end

for i = 2, #ARGV, 2 do
  local id, user = ARGV[i], ARGV[i + 1]
  if known(id) and redis.call('ZADD', confirmed, 'GT', 'CH', id, user) == 0 then
    local held = redis.call('ZSCORE', confirmed, user)
    if held ~= id and not known(held) then redis.call('ZADD', confirmed, id, user) end
  end
end
redis.call('EXPIRE', confirmed, ARGV[1])
-- A position without the last id beside it would look like one that was lost.
redis.call('EXPIRE', last, ARGV[1], 'GT')
return redis.status_reply('OK')
