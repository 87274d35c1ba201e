-- Takes a message out of a channel's log. A tombstone (message.py) stays in its place, so that nothing looks lost.
-- KEYS[1]  log
-- ARGV[1]  the message's id
-- Returns  1 if the log held the message, else 0
local entry = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local tombstone = string.match(entry, '^%d+:%d+:[^:+]*') .. ':'
-- Of a tombstone too: a WAIT that follows is about this connection's own writes, so there has to be one.
redis.call('ZREM', KEYS[1], entry)
redis.call('ZADD', KEYS[1], ARGV[1], tombstone)
return entry == tombstone and 0 or 1
