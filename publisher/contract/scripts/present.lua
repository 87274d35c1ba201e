-- Who is in a channel, on all nodes whose lease of it has not run out.
-- KEYS[1]  presence of the channel
-- Returns  the members "<node>/<user>"
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
