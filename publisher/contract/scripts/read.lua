-- One page of a channel's log after a position, and the position itself.
-- KEYS[1]  log   KEYS[2] last   KEYS[3] confirmed   KEYS[4] retention: "<id> <max messages> <max age>", the limits
--          that the message with this id has brought along; they count while it is the newest   KEYS[5] tombstones
-- ARGV[1]  user  ARGV[2] position, or "" for what the user has confirmed
-- ARGV[3]  most entries of a page   ARGV[4] bytes after which a page ends (it has one entry at least)
-- ARGV[5]  max messages, or "": all that is there   ARGV[6] max age, seconds
-- Returns  {position (-1: none is known), id of the newest message ever logged or 0, entry, entry, ...}
local log, count, room = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local position = ARGV[2]
if position == '' then position = redis.call('ZSCORE', KEYS[3], ARGV[1]) or '-1' end
local newest = redis.call('GET', KEYS[2])
if not newest then newest = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0' end

-- Up to which id the log holds what is beyond its limits, because no publish has trimmed it yet.
local function beyond(messages, age)
  local now = redis.call('TIME')
  local too_old = now[1] * 1000000 + now[2] - age * 1000000 - 1
  local too_many = redis.call('ZREVRANGE', log, messages, messages, 'WITHSCORES')[2] or '0'
  return math.max(too_old, too_many)
end

local from = tonumber(position)
if ARGV[5] ~= '' and from < tonumber(newest) then
  local hidden = beyond(ARGV[5], ARGV[6])
  if hidden > from then
    local id, messages, age = string.match(redis.call('GET', KEYS[4]) or '', '^(%d+) (%d+) (%d+)$')
    if id == newest then hidden = beyond(messages, age) end
    from = math.max(from, hidden)
  end
end
from = string.format('(%.0f', from)

local page, is_last = {position, newest}, false
-- Few, since they may be large, and so many that most readers need no more.
local read, size = 0, math.min(4, count)
local some = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'LIMIT', '0', size)
while true do
  local length = 0
  for _, entry in ipairs(some) do
    if room <= 0 then break end
    page[#page + 1] = entry
    length = length + #entry
    room = room - #entry
  end
  is_last = #some < size and room > 0
  read = read + #some
  -- As many of that length as there is room for: large entries are not fetched to be left out.
  if #some < size or room <= 0 or read == count then break end
  size = math.min(16, count - read, math.ceil(room * #some / length))
  some = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'LIMIT', read, size)
end

local removed = {}
if tonumber(position) < tonumber(newest) then
  -- Neighbours are one (delete.lua), so there is one more of them at most than there are entries. Also those of messages that
  -- would be too old by now: without them the entry behind them does not follow the position, and a loss is told.
  removed = redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. position, '+inf', 'LIMIT', '0', count + 1)
end
if #removed == 0 then return page end
local function id_of(entry) return tonumber(string.match(entry, '^%d+') or 0) end
local joined, next_removed = {position, newest}, 1
for i = 3, #page do
  local id = id_of(page[i])
  while removed[next_removed] and id_of(removed[next_removed]) < id do
    joined[#joined + 1] = removed[next_removed]
    next_removed = next_removed + 1
  end
  -- Whether there are further ones before this entry is not known here.
  if next_removed > count + 1 then return joined end
  joined[#joined + 1] = page[i]
end
if is_last then
  for i = next_removed, #removed do joined[#joined + 1] = removed[i] end
end
return joined
