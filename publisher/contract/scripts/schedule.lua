-- Keeps a message until it is to be published. A second call with the same id changes nothing.
-- KEYS[1]  the message   KEYS[2] what waits   KEYS[3] what is being published
-- ARGV[1]  its id   ARGV[2] when, ms since 1970   ARGV[3] the message (scheduling.py)
-- Returns  when: that of the first call
local moment = redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('ZSCORE', KEYS[3], ARGV[1])
-- At each try: a WAIT that follows is about this connection's own writes, so there has to be one.
redis.call('SET', KEYS[1], moment and redis.call('GET', KEYS[1]) or ARGV[3])
if moment then return moment end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return ARGV[2]
