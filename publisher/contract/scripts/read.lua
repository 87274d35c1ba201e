-- One page of a channel's log after a position, and the position itself.
-- KEYS[1]  log   KEYS[2] last   KEYS[3] confirmed
-- ARGV[1]  user  ARGV[2] position, or "" for what the user has confirmed
-- ARGV[3]  most entries of a page   ARGV[4] bytes after which a page ends (it has one entry at least)
-- Returns  {position (-1: none is known), id of the newest message ever logged or 0, entry, entry, ...}
local log, count, room = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local position = ARGV[2]
if position == '' then position = redis.call('ZSCORE', KEYS[3], ARGV[1]) or '-1' end
local newest = redis.call('GET', KEYS[2])
if not newest then newest = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0' end

local page = {position, newest}
local from = 0
while from < count and room > 0 do
  -- A few at a time: large messages are not all fetched to be left out again.
  local size = math.min(16, count - from)
  local some = redis.call('ZRANGEBYSCORE', log, '(' .. position, '+inf', 'LIMIT', from, size)
  for _, entry in ipairs(some) do
    if room <= 0 then break end
    page[#page + 1] = entry
    room = room - #entry
  end
  if #some < size then break end
  from = from + size
end
return page
