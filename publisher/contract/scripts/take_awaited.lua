-- Takes channels in which the owner's confirmation is awaited and due, if no other node does so.
-- KEYS[1]  channels in which it is awaited   KEYS[2] those that are being looked at   KEYS[3] the node that does it
-- ARGV[1]  this node   ARGV[2] for how long it does it, ms   ARGV[3] how many are taken at most, and as many once more of those
--          that were left unfinished
-- ARGV[4]  ms until a node is to look again at the latest   ARGV[5] how long a confirmation is awaited, us
-- Returns  {ms until it is to look again: 0 if there may be more that is due, channel, id of its first message, channel, id, ...}
local awaited, looking, most = KEYS[1], KEYS[2], tonumber(ARGV[3])
local looker = redis.call('GET', KEYS[3])
if looker and looker ~= ARGV[1] then return {math.min(redis.call('PTTL', KEYS[3]), ARGV[4])} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])

local time = redis.call('TIME')
local late = time[1] * 1000000 + time[2] - ARGV[5]
local unfinished = redis.call('ZCARD', looking)
local channels = {}
if unfinished > 0 then
  -- From another one each time, and on from the first one behind the last: those whose part of Redis does not answer hold up
  -- no others. Who looks at equal intervals begins anywhere, too.
  local from = tonumber(string.sub(redis.sha1hex(time[1] .. time[2]), 1, 8), 16) % unfinished
  local over = math.min(from, from + most - unfinished)
  for _, channel in ipairs(redis.call('ZRANGE', looking, from, from + most - 1)) do channels[channel] = true end
  if over > 0 then
    for _, channel in ipairs(redis.call('ZRANGE', looking, 0, over - 1)) do channels[channel] = true end
  end
end
local due = redis.call('ZRANGEBYSCORE', awaited, '-inf', string.format('%.0f', late), 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #due, 2 do
  local id, before = due[i + 1], redis.call('ZSCORE', looking, due[i])
  -- Who looks at it has not seen this one: it is looked at again from where it was, and what comes of that look is not told.
  if before then id = string.format('%.0f', math.min(before, id) - 1) end
  redis.call('ZADD', looking, id, due[i])
  redis.call('ZREM', awaited, due[i])
  channels[due[i]] = true
end
local reply = {0}
for channel in pairs(channels) do
  reply[#reply + 1] = channel
  reply[#reply + 1] = redis.call('ZSCORE', looking, channel)
end
if #due < 2 * most then
  local following = redis.call('ZRANGE', awaited, 0, 0, 'WITHSCORES')[2]
  reply[1] = following and math.min(ARGV[4], math.ceil((following - late) / 1000)) or tonumber(ARGV[4])
end
return reply
