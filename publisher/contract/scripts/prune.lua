-- Removes the positions of users who have confirmed nothing for so long that all of it has left the log.
-- KEYS[1]  confirmed
-- ARGV[1]  oldest id that is kept   ARGV[2] how many are removed at most
-- Returns  how many were removed
-- 0 has no age: its users were there before the first message, and may come back any day to be told of a loss.
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
return #old
