-- Lets a user subscribe to a channel.
-- KEYS[1]  grants of the channel
-- ARGV[1]  user, or "*"   ARGV[2] time to live in ms, or "" for ever
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], ARGV[2] == '' and 'inf' or now + ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], last)
end
return redis.status_reply('OK')
