-- Takes back a message that is to be published later. One that is being published stays.
-- KEYS[1]  the message   KEYS[2] what waits
-- ARGV[1]  its id   ARGV[2] for how many seconds the message is still known, so that a late try of its schedule is, too
-- Returns  1 if it was waiting, else 0
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
