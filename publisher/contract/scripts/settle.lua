-- Finds out what became of messages of one channel whose answers were lost. A try of theirs that is still on
-- its way publishes nothing afterwards.
-- KEYS[1]  log   KEYS[2] last   KEYS[3] tombstones   KEYS[4], KEYS[5], ...  for each message the result of the try, which it may have
--          shared with others
-- ARGV[1]  the time of their first try, microseconds of the Redis clock as the sender knows it
-- ARGV[2]  microseconds that have passed since then, as the sender knows it
-- ARGV[3]  most entries to read   ARGV[4] bytes after which no more is read
-- ARGV[5], ARGV[6], ...  their nonces
-- Returns  for each its id; "0" if it was not published; "" if nobody can tell any more
local log = KEYS[1]
local now = redis.call('TIME')
-- The earlier of both, for one may be wrong: the clock was set since the sender has read it, or this call
-- has been long on its way.
local since = math.min(ARGV[1], now[1] * 1000000 + now[2] - ARGV[2])
local newest = redis.call('GET', KEYS[2])
if not newest then newest = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0' end

-- What became of those that are not found. A message that has arrived did so soon after its first try: from there on
-- the log is read forward, until all are found. Everybody waits meanwhile, so what is done for each entry is written out.
local found, otherwise = {}, '0'
if tonumber(newest) >= since then
  local from, find, match = string.format('%.0f', since), string.find, string.match
  local wanted, missing, only = {}, #ARGV - 4, #ARGV == 5 and ARGV[5]
  for i = 5, #ARGV do wanted[ARGV[i]] = i - 1 end
  -- Text costs less to pass on than numbers.
  local page, first = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'LIMIT', '0', '1'), nil
  local read, size, room, is_whole = 0, 1, tonumber(ARGV[4]), false
  while true do
    local length = 0
    for i = 1, #page do
      local entry = page[i]
      length = length + #entry
      -- A search passes an entry by for a fifth of what a match costs.
      if not only or find(entry, only, 1, true) then
        local id, nonce = match(entry, '^(%d+):%d+:([^:+/]*)')
        if id and wanted[nonce] then
          found[wanted[nonce]] = id
          missing = missing - 1
        end
      end
    end
    if missing == 0 then break end
    first = first or page[1]
    if #page < size then
      is_whole = true
      break
    end
    read, room = read + #page, room - length
    -- As many of that length as there is room for: large entries are not fetched to be left out.
    size = math.min(16 * size, ARGV[3] - read, math.max(1, math.floor(room * #page / length)))
    if size == 0 or room <= 0 then break end
    page = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'LIMIT', read, size)
  end
  if missing > 0 then
    -- Those that were taken out meanwhile: a tombstone names each that it stands for, as far as there is room in it.
    local tombstones = redis.call('ZRANGEBYSCORE', KEYS[3], from, '+inf', 'LIMIT', '0', ARGV[3])
    is_whole = is_whole and #tombstones < tonumber(ARGV[3])
    for _, tombstone in ipairs(tombstones) do
      local id, nonces = match(tombstone, '^(%d+):%d+:%d+|([^:]*)')
      -- From the newest on. The last one may be cut off where there was no room for all.
      local is_cut, before, oldest = #nonces >= 1000, nil, nil
      for each in string.gmatch(id .. '=' .. nonces, '[^,]+') do
        local its_id, nonce = match(each, '^(%d+)=(.*)')
        if nonce and wanted[nonce] then found[wanted[nonce]] = its_id end
        before, oldest = oldest, its_id
      end
      is_whole = is_whole and (not is_cut or (before and tonumber(before) < since))
    end
    -- Whether there still is all that was published since the first try. What is trimmed is the oldest, so that behind an
    -- older entry nothing is missing.
    local id, prev = match(first or '', '^(%d+):(%d+):')
    local its_id, its_prev = match(tombstones[1] or '', '^(%d+):(%d+):')
    if its_id and not (id and tonumber(id) < tonumber(its_id)) then prev = its_prev end
    if not is_whole or not (prev and tonumber(prev) < since)
      and #redis.call('ZRANGEBYSCORE', log, '-inf', '(' .. from, 'LIMIT', '0', '1') == 0 then
      otherwise = ''
    end
  end
end

local reply = {}
for i = 4, #KEYS do
  -- Ten minutes is longer than a try is on its way after its sender has given it up. And this is a write,
  -- as a WAIT behind this call needs one.
  redis.call('SET', KEYS[i], found[i] and found[i] .. ':' .. ARGV[i + 1] or '', 'EX', '600')
  reply[i - 3] = found[i] or otherwise
end
return reply
