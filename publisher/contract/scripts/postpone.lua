-- Lets a message that cannot be published now wait again. By the clock of Redis, as it was taken by (due.lua).
-- KEYS[1]  what waits   KEYS[2] what is being published
-- ARGV[1]  its id   ARGV[2] for how long, ms
-- Returns  when it is due, ms since 1970
local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
redis.call('ZADD', KEYS[1], due, ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return due
