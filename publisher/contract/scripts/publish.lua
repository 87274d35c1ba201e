-- Appends a message to a channel's log and publishes it, in one step.
-- KEYS[1]  log   KEYS[2] last
-- KEYS[3]  result: "<id>:<nonce>" of the message that was published under this name, "" where a retry has
--          taken the place of this try (settle.lua)
-- ARGV[1]  live channel   ARGV[2] nonce   ARGV[3] JSON of data
-- ARGV[4]  max messages   ARGV[5] max age, seconds   ARGV[6] how long the last id is kept, seconds
-- ARGV[7]  how long the result is kept, seconds; "" without an idempotency key: then it is not written
-- ARGV[8]  "1", or absent: a WAIT follows
-- Returns  "<id>:0"; "<id>:1" if another call had published under this key.
--          (A string: a table costs Redis a tenth more.)
local log, nonce = KEYS[1], ARGV[2]
local prev, result = unpack(redis.call('MGET', KEYS[2], KEYS[3]))

if result then
  local id, by = string.match(result, '^(%d+):(.*)')
  if not id then return redis.error_reply('SUPERSEDED a retry has taken the place of this try') end
  -- WAIT is about this connection's own writes, so there has to be one; it covers all before it.
  if ARGV[8] then redis.call('SET', KEYS[3], result, 'EX', ARGV[7]) end
  return id .. (by == nonce and ':0' or ':1')
end

local now = redis.call('TIME')
local id = now[1] * 1000000 + now[2]
-- The chain goes on where the log has expired.
if not prev then prev = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0' end
if id <= tonumber(prev) then id = prev + 1 end
-- tostring() would write 1.7e+15
local name = string.format('%.0f', id)
local entry = name .. ':' .. prev .. ':' .. nonce .. ':' .. ARGV[3]

redis.call('ZADD', log, name, entry)
redis.call('ZREMRANGEBYRANK', log, 0, -1 - ARGV[4])
redis.call('ZREMRANGEBYSCORE', log, '-inf', string.format('(%.0f', id - ARGV[5] * 1000000))
redis.call('EXPIRE', log, ARGV[5])
redis.call('SET', KEYS[2], name, 'EX', ARGV[6])
if ARGV[7] ~= '' then redis.call('SET', KEYS[3], name .. ':' .. nonce, 'EX', ARGV[7]) end
redis.call('PUBLISH', ARGV[1], entry)
return name .. ':0'
