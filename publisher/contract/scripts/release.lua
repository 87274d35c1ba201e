-- Releases a place where the oldest connection gives way.
-- KEYS[1]  connections of a user   KEYS[2] when each came
-- ARGV[1]  member "<node>/<connection>"
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
