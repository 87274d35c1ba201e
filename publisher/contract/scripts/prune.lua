-- Removes the positions of users who have confirmed nothing for so long that all of it has left the log.
-- KEYS[1]  seen
-- ARGV[1]  oldest id that is kept   ARGV[2] how many are removed at most
-- Returns  how many were removed
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
return #old
