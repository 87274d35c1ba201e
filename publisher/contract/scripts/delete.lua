-- Takes a message out of a channel's log. A tombstone (message.py) keeps its place, so that nothing looks lost. Neighbours
-- become one, so there is at most one more of them than the log has messages, however many are taken out.
-- KEYS[1]  log   KEYS[2] tombstones
-- ARGV[1]  the message's id
-- Returns  1 if the log held the message, else 0
local log, removed, id = KEYS[1], KEYS[2], ARGV[1]
-- A WAIT that follows is about this connection's own writes, so there has to be one where nothing is to be done too.
local function write_nothing(key)
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left) end
end

local entry = redis.call('ZRANGEBYSCORE', log, id, id)[1]
if not entry then
  write_nothing(removed)
  return 0
end
local prev, nonces = string.match(entry, '^%d+:(%d+):([^:+/]*)')
local length = redis.call('ZCARD', log)
if string.find(entry, '^%d+:%d+:[^:]*:$') then
  write_nothing(log)
  return 0
elseif length == 1 then
  -- An empty log would be gone, and its expiry with it: a publish gives it one only now and then (publish.lua).
  redis.call('ZADD', log, id, id .. ':' .. prev .. ':' .. nonces .. ':')
  redis.call('ZREM', log, entry)
  return 1
end

-- Between both messages there is no tombstone.
local first, last, near = id, id, redis.call('ZRANGEBYSCORE', removed, prev, '+inf', 'LIMIT', 0, 2)
local its_id, its_prev, its_first, its_nonces = string.match(near[1] or '', '^(%d+):(%d+):(%d+)|([^:]*)')
local below, above = its_id == prev, nil
if below then
  nonces, prev, first = nonces .. ',' .. prev .. '=' .. its_nonces, its_prev, its_first
  its_id, its_prev, its_first, its_nonces = string.match(near[2] or '', '^(%d+):(%d+):(%d+)|([^:]*)')
end
if its_prev == id then
  above = near[below and 2 or 1]
  nonces, last = its_nonces .. ',' .. id .. '=' .. nonces, its_id
end
redis.call('ZADD', removed, last, last .. ':' .. prev .. ':' .. first .. '|' .. string.sub(nonces, 1, 1000) .. ':')
if below then redis.call('ZREM', removed, near[1]) end
if above then redis.call('ZREM', removed, above) end
redis.call('ZREM', log, entry)
redis.call('ZREMRANGEBYRANK', removed, 0, -1 - length)
local left = math.max(redis.call('PTTL', log), redis.call('PTTL', removed))
if left > 0 then redis.call('PEXPIRE', removed, left) end
return 1
