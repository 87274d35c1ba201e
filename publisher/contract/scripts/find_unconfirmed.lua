-- Finds the messages of a channel that its owner has not confirmed in time.
-- KEYS[1]  log   KEYS[2] confirmed
-- ARGV[1]  owner   ARGV[2] from which id on   ARGV[3] after how long, us   ARGV[4] so many entries are read at most
-- Returns  {the id from which on nothing has been looked at, or "", id, id, ...}
local log, most, from = KEYS[1], tonumber(ARGV[4]), ARGV[2]
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local confirmed = redis.call('ZSCORE', KEYS[2], ARGV[1])
if confirmed and tonumber(confirmed) >= tonumber(from) then from = '(' .. confirmed end

local found = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES', 'LIMIT', 0, most + 1)
local reply = {''}
for i = 1, #found, 2 do
  local entry, id = found[i], found[i + 1]
  if i > 2 * most or tonumber(id) > now - ARGV[3] then
    reply[1] = id
    break
  end
  -- A tombstone has no body, and of a message whose time is over (message.py) nothing is left either.
  local nonce, body = string.match(entry, '^%d+:%d+:([^:]*):(.?)')
  local lives = nonce and string.match(nonce, '%+t(%d+)')
  if nonce and body ~= '' and not (lives and now >= id + lives * 1000000) then reply[#reply + 1] = id end
end
return reply
