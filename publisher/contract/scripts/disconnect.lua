-- Ends a user's connections on all nodes, and keeps the command for those that do not hear it.
-- KEYS[1]  what was disconnected
-- ARGV[1]  "<nonce>:<the command without its end>" (control.py), the same at each try   ARGV[2] control channel
-- ARGV[3]  for how long it is kept, ms   ARGV[4] how many are kept
-- Returns  the moment, in us, up to which connections end: of a second try that of the first, so that it ends nobody
--          who has come back
local at, again = redis.call('ZSCORE', KEYS[1], ARGV[1]), ',"again":true'
if not at then
  again = ''
  local now = redis.call('TIME')
  at = string.format('%.0f', now[1] * 1000000 + now[2])
  redis.call('ZADD', KEYS[1], at, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', at - ARGV[3] * 1000))
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[4])
end
-- At each try: a WAIT that follows is about this connection's own writes, so there has to be one.
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[3] / 1000) + 60)
redis.call('PUBLISH', ARGV[2], string.match(ARGV[1], ':(.*)') .. again .. ',"at":' .. at .. '}')
return at
