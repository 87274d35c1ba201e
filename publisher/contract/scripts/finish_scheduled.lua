-- Removes a scheduled message that was published. Whoever schedules it again finds all of it, or nothing.
-- KEYS[1]  the message   KEYS[2] what is being published
-- ARGV[1]  its id
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.status_reply('OK')
