-- Takes what is to be published by now, if no other node does so: who has taken it cannot be cancelled any more.
-- KEYS[1]  what waits   KEYS[2] what is being published   KEYS[3] the node that does it
-- ARGV[1]  this node   ARGV[2] for how long it does it, ms   ARGV[3] how many are taken at most
-- ARGV[4]  ms until it is to look again at the latest
-- Returns  {ms until it is to look again, id, id, ...}; what a node has left unfinished is among them
local taker = redis.call('GET', KEYS[3])
if taker and taker ~= ARGV[1] then return {redis.call('PTTL', KEYS[3])} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #due, 2 do
  redis.call('ZADD', KEYS[2], due[i + 1], due[i])
  redis.call('ZREM', KEYS[1], due[i])
end
local reply = redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1)
local pause = tonumber(ARGV[4])
if #reply > 0 then
  pause = 0
else
  local following = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  if following then pause = math.min(pause, following - now) end
end
table.insert(reply, 1, pause)
return reply
