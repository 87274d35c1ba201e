-- Lets the ids of new messages be above one that a failover has lost, and above every position known here.
-- KEYS[1]  last   KEYS[2] log   KEYS[3] confirmed
-- ARGV[1]  the id that was lost   ARGV[2] how long the last id is kept, seconds
local last = redis.call('GET', KEYS[1]) or redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or '0'
if tonumber(last) < tonumber(ARGV[1]) then
  local held = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or '0'
  -- By a second: whoever holds a lost id, this one or one soon after it, is to see that the log does not go on there.
  redis.call('SET', KEYS[1], string.format('%.0f', math.max(ARGV[1], held) + 1000000), 'EX', ARGV[2])
end
return redis.status_reply('OK')
