-- A user's live connections.
-- KEYS[1]  connections of the user
-- Returns  {member, expiry in ms, member, expiry, ...}
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES')
