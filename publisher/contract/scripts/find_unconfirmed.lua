-- Finds the messages of a channel that its owner has not confirmed in time.
-- KEYS[1]  log   KEYS[2] confirmed
-- ARGV[1]  owner   ARGV[2] from which id on   ARGV[3] after how long, us   ARGV[4] most entries to read   ARGV[5] bytes
--          after which no more is read
-- Returns  {the id from which on nothing has been looked at, or "", id, id, ...}
local log, most, room, from = KEYS[1], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[2]
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local confirmed = redis.call('ZSCORE', KEYS[2], ARGV[1])
if confirmed and tonumber(confirmed) >= tonumber(from) then from = '(' .. confirmed end

local reply, read, size = {''}, 0, 1
while true do
  local some = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES', 'LIMIT', read, size)
  local length, id = 0, nil
  for i = 1, #some, 2 do
    local entry = some[i]
    id, length = some[i + 1], length + #entry
    if tonumber(id) > now - ARGV[3] then
      reply[1] = id
      return reply
    end
    -- A tombstone has no body, and of a message whose time is over (message.py) nothing is left either.
    local nonce, body = string.match(entry, '^%d+:%d+:([^:]*):(.?)')
    local lives = nonce and string.match(nonce, '%+t(%d+)')
    if nonce and body ~= '' and not (lives and now >= id + lives * 1000000) then reply[#reply + 1] = id end
  end
  if #some < 2 * size then return reply end
  read, room = read + size, room - length
  if read >= most or room <= 0 then
    reply[1] = string.format('%.0f', id + 1)
    return reply
  end
  -- As many of that length as there is room for: large entries are not fetched to be left out.
  size = math.min(4 * size, most - read, math.ceil(room * size / length))
end
