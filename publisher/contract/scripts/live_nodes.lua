-- The nodes whose lease has not run out; in a time of grace (renew_node.lua) all that are remembered.
-- KEYS[1]  nodes
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local grace = redis.call('ZSCORE', KEYS[1], '/grace')
local from = grace and tonumber(grace) > now and '-inf' or '(' .. now
return redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf')
