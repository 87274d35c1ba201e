-- Lets a user subscribe to a channel, and tells the nodes on which somebody was refused it a short while ago.
-- KEYS[1]  grants of the channel
-- ARGV[1]  who: a user or everybody (grants.py)   ARGV[2] time to live in ms, or "" for ever
-- ARGV[3]  control channel   ARGV[4] command to the nodes to ask about this grant again
-- ARGV[5]  pub/sub channel for the grants of this channel   ARGV[6] in a cluster: that of its messages (control.py)
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if before and ARGV[2] ~= '' and (before == 'inf' or tonumber(before) > now + ARGV[2]) then
  -- Nodes that know the later end would not look before it.
  redis.call('PUBLISH', ARGV[3], ARGV[4])
  if ARGV[6] then redis.call('PUBLISH', ARGV[6], ARGV[4]) end
end
redis.call('ZADD', KEYS[1], ARGV[2] == '' and 'inf' or now + ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], last)
end
redis.call('PUBLISH', ARGV[5], ARGV[1])
return redis.status_reply('OK')
