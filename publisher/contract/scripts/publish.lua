-- Appends a message to a channel's log and publishes it, in one step.
-- KEYS[1]  log   KEYS[2] last   KEYS[3] what became of this publish, if a retry has published it
-- ARGV[1]  live channel
-- ARGV[2]  nonce: "<call>", or "<key>.<call>" under an idempotency key
-- ARGV[3]  JSON of data
-- ARGV[4]  max messages   ARGV[5] max age, seconds
-- ARGV[6]  "": publish; else look in the log first. "0" for an idempotency key; in a retry, the time
--          (microseconds, Redis clock) before which this message had certainly not been published
-- ARGV[7]  how long the last id is kept, seconds
-- ARGV[8]  "1", or absent: a WAIT follows
-- Returns  "<id>:0"; "<id>:1" if another call had published under this key; "0:2" if nobody can tell
--          any more whether an earlier try has published it. (A string: a table costs Redis a tenth more.)
local log, nonce, since = KEYS[1], ARGV[2], tonumber(ARGV[6])
local prev, done = unpack(redis.call('MGET', KEYS[2], KEYS[3]))

local function found(outcome)
  -- WAIT is about this connection's own writes, so there has to be one; it covers all before it.
  if ARGV[8] then redis.call('SET', KEYS[3], outcome, 'EX', 600) end
  return outcome
end

-- A retry has overtaken this try, which was held up on its way.
if done then return found(done) end

if since then
  local key = string.match(nonce, '^[^.]+')
  local from = 0
  repeat
    local page = redis.call('ZREVRANGE', log, from, from + 99)
    for _, entry in ipairs(page) do
      local id, other = string.match(entry, '^(%d+):%d+:([^:]*):')
      if other == nonce then return found(id .. ':0') end
      if other and string.match(other, '^[^.]*') == key then return found(id .. ':1') end
    end
    from = from + 100
  until #page < 100
  -- The newest message that is gone from the log; an earlier try's may be that old.
  local oldest = redis.call('ZRANGE', log, 0, 0)[1]
  local gone = oldest and string.match(oldest, '^%d+:(%d+):') or prev or '0'
  if since > 0 and tonumber(gone) >= since then return '0:2' end
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
redis.call('SET', KEYS[2], name, 'EX', ARGV[7])
-- Ten minutes is longer than a request is on its way after its sender has given it up.
if since and since > 0 then redis.call('SET', KEYS[3], name .. ':0', 'EX', 600) end
redis.call('PUBLISH', ARGV[1], entry)
return name .. ':0'
