-- Tells what the owner of a channel has not confirmed in time, each message once, and notes when to look there again.
-- KEYS[1]  events   KEYS[2] channels for which a confirmation is awaited   KEYS[3] those that are being looked at
-- KEYS[4]  channel -> id of the message that was told last
-- ARGV[1]  channel   ARGV[2] the id with which it was taken   ARGV[3] from which id on nothing has been looked at, or ""
-- ARGV[4]  so many events are kept, or a few more   ARGV[5] messages that are older, us, are not looked at again anyway
-- ARGV[6]  user   ARGV[7] node   ARGV[8] timestamp   ARGV[9], ... ids
-- Returns  how many events were told
local events, awaited, looking, told, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
-- Another node has done so meanwhile.
if tonumber(redis.call('ZSCORE', looking, channel) or 0) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', looking, channel)
-- A publish since then may have noted a later id.
if ARGV[3] ~= '' then redis.call('ZADD', awaited, 'LT', ARGV[3], channel) end
local before, count = tonumber(redis.call('ZSCORE', told, channel) or 0), 0
for i = 9, #ARGV do
  if tonumber(ARGV[i]) > before then
    redis.call('XADD', events, 'MAXLEN', '~', ARGV[4], '*', 'kind', 'unconfirmed', 'user', ARGV[6], 'channel', channel,
      'message', ARGV[i], 'node', ARGV[7], 'timestamp', ARGV[8])
    redis.call('ZADD', told, ARGV[i], channel)
    count = count + 1
  end
end
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', told, '-inf', now[1] * 1000000 + now[2] - ARGV[5])
return count
