-- Keeps a message until it is to be published. A second call with the same id changes nothing.
-- KEYS[1]  the message   KEYS[2] what waits   KEYS[3] what is being published
-- ARGV[1]  its id   ARGV[2] when, ms since 1970   ARGV[3] the message (scheduling.py)
-- Returns  when: that of the first call
local kept = redis.call('GET', KEYS[1])
local moment = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not moment and kept and redis.call('ZSCORE', KEYS[3], ARGV[1]) then moment = ARGV[2] end
if not moment and kept == ARGV[3] then
  -- A late try, byte for byte the same, of what was cancelled meanwhile.
  return ARGV[2]
end
-- At each try: a WAIT that follows is about this connection's own writes, so there has to be one.
redis.call('SET', KEYS[1], moment and kept or ARGV[3])
if moment then return moment end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return ARGV[2]
