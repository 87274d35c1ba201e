-- Appends a message to a channel's log and publishes it, in one step.
-- KEYS[1]  log   KEYS[2] last
-- ARGV[1]  live channel
-- ARGV[2]  nonce: "<call>", or "<key>.<call>" under an idempotency key
-- ARGV[3]  JSON of data
-- ARGV[4]  max messages   ARGV[5] max age, seconds
-- ARGV[6]  "1": look in the log first (a retry, or an idempotency key)
-- ARGV[7]  how long the last id is kept, seconds
-- Returns  {id, 1 if another call had published under this key, else 0}
local log, nonce = KEYS[1], ARGV[2]

if ARGV[6] == '1' then
  local key = string.match(nonce, '^[^.]+')
  local from = 0
  repeat
    local page = redis.call('ZREVRANGE', log, from, from + 99)
    for _, entry in ipairs(page) do
      local id, found = string.match(entry, '^(%d+):%d+:([^:]*):')
      if found == nonce then return {id, 0} end
      if found and string.match(found, '^[^.]*') == key then return {id, 1} end
    end
    from = from + 100
  until #page < 100
end

local now = redis.call('TIME')
local id = now[1] * 1000000 + now[2]
-- The chain goes on where the log has expired.
local prev = redis.call('GET', KEYS[2])
if not prev then prev = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0' end
if id <= tonumber(prev) then id = prev + 1 end
-- tostring() would write 1.7e+15
local name = string.format('%.0f', id)
local entry = name .. ':' .. prev .. ':' .. nonce .. ':' .. ARGV[3]

redis.call('ZADD', log, name, entry)
redis.call('ZREMRANGEBYRANK', log, 0, -1 - ARGV[4])
redis.call('ZREMRANGEBYSCORE', log, '-inf', string.format('(%.0f', id - ARGV[5] * 1000000))
redis.call('EXPIRE', log, ARGV[5])
redis.call('SET', KEYS[2], name, 'EX', ARGV[7])
redis.call('PUBLISH', ARGV[1], entry)
return {name, 0}
