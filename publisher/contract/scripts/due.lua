-- Takes what is to be published by now, if no other node does so: who has taken it cannot be cancelled any more.
-- KEYS[1]  what waits   KEYS[2] what is being published, and when it is handed out again   KEYS[3] the node that does it
-- KEYS[4]  with what the names of all messages begin
-- ARGV[1]  this node   ARGV[2] for how long it does it, ms   ARGV[3] how many are taken at most, and as many once more
-- ARGV[4]  ms until a node is to look again at the latest   ARGV[5] ms until what is not removed by then is handed out again
-- ARGV[6]  bytes after which no more are taken, and as many once more
-- Returns  {ms until it is to look again}; to the node that does it {that, how many there are in all, for how many ms the first
--          that waits has been due (below 0: not yet) or nil, {id, ...} of those that were left unfinished, which it may still have,
--          {id, message or nil, ...} of those that it takes now; neither displace the others
local taker = redis.call('GET', KEYS[3])
if taker and taker ~= ARGV[1] then return {math.min(redis.call('PTTL', KEYS[3]), ARGV[4])} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local found = {{}, {}}
for place, from in ipairs({KEYS[2], KEYS[1]}) do
  local room = tonumber(ARGV[6])
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', now, 'LIMIT', 0, ARGV[3])) do
    if room <= 0 then break end
    redis.call('ZADD', KEYS[2], now + ARGV[5], id)
    table.insert(found[place], id)
    if from == KEYS[1] then
      local message = redis.call('GET', KEYS[4] .. id)
      redis.call('ZREM', from, id)
      table.insert(found[place], message)
      room = room - (message and #message or 0)
    else
      room = room - redis.call('STRLEN', KEYS[4] .. id)
    end
  end
end
local pause = 0
if #found[1] + #found[2] == 0 then
  local again = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  pause = tonumber(ARGV[4])
  if first then pause = math.min(pause, first - now) end
  if again then pause = math.min(pause, again - now) end
end
local count = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])
return {pause, count, first and now - first or false, found[1], found[2]}
