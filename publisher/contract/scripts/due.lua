-- Takes what is to be published by now, if no other node does so: who has taken it cannot be cancelled any more.
-- KEYS[1]  what waits   KEYS[2] what is being published, and when it is handed out again   KEYS[3] the node that does it
-- KEYS[4]  with what the names of all messages begin
-- ARGV[1]  this node   ARGV[2] for how long it does it, ms   ARGV[3] how many are taken at most, and as many once more
-- ARGV[4]  ms until it is to look again at the latest   ARGV[5] ms until what is not removed by then is handed out again
-- ARGV[6]  bytes after which no more are taken, and as many once more
-- Returns  {ms until it is to look again}; to the node that does it {that, how many there are in all, for how many ms the
--          oldest has been due that waits, id, message or nil, id, message or nil, ...}; what has been left unfinished is among
--          them, and displaces nothing
local taker = redis.call('GET', KEYS[3])
if taker and taker ~= ARGV[1] then return {redis.call('PTTL', KEYS[3])} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local reply = {0, redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]), math.max(0, now - (first or now))}
for _, from in ipairs({KEYS[2], KEYS[1]}) do
  local room = tonumber(ARGV[6])
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', now, 'LIMIT', 0, ARGV[3])) do
    if room <= 0 then break end
    local message = redis.call('GET', KEYS[4] .. id)
    redis.call('ZADD', KEYS[2], now + ARGV[5], id)
    if from == KEYS[1] then redis.call('ZREM', from, id) end
    reply[#reply + 1] = id
    reply[#reply + 1] = message
    room = room - (message and #message or 0)
  end
end
if #reply == 3 then reply[1] = first and math.min(ARGV[4], first - now) or tonumber(ARGV[4]) end
return reply
