-- Adds what a node tells to the stream of events, each batch once. A connection that is there already is not begun again,
-- and one that is not there is not ended: whoever tells it twice, or late, changes nothing.
-- KEYS[1]  events   KEYS[2] how many connections each user has   KEYS[3] the node's connections and whose they are;
--          beside them "/batch": the number of the batch that was written last   KEYS[4] nodes that tell of events
-- ARGV[1]  number of this batch   ARGV[2] so many events are kept, or a few more   ARGV[3] how long all is kept, ms
-- ARGV[4]  node   ARGV[5] lease, ms, which is renewed too; "" where the node tells of no connections, and has none
-- ARGV[6], ...  for each event: "+" where a connection begins, "-" where it ends, else ""; "1" where it is told; how many
--          fields and values follow; these: "kind", kind, "user", user, "connection", connection, ...
-- Returns  how many events were told; -1 where the lease is over: others may have told of the end of all, so nothing is written
local events, counts, own, nodes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function count(user) return tonumber(redis.call('HGET', counts, user) or 0) end
if redis.call('HGET', own, '/batch') == ARGV[1] then return 0 end
if ARGV[5] ~= '' then
  local now = redis.call('TIME')
  now = now[1] * 1000 + math.floor(now[2] / 1000)
  local expiry = redis.call('ZSCORE', nodes, ARGV[4])
  if not expiry or tonumber(expiry) <= now then return -1 end
  redis.call('ZADD', nodes, 'GT', now + ARGV[5], ARGV[4])
end
local told, i = 0, 6
while i <= #ARGV do
  local change, tell, size = ARGV[i], ARGV[i + 1] == '1', tonumber(ARGV[i + 2])
  local fields = {unpack(ARGV, i + 3, i + 2 + size)}
  local user, connection = fields[4], fields[6]
  if change == '+' then
    if redis.call('HGET', own, connection) then
      tell = false
    else
      local before = count(user)
      redis.call('HSET', own, connection, user)
      redis.call('HSET', counts, user, before + 1)
      if before == 0 then fields[size + 1], fields[size + 2] = 'first', '1' end
    end
  elseif change == '-' then
    if redis.call('HDEL', own, connection) == 0 then
      tell = false
    elseif count(user) > 1 then
      redis.call('HSET', counts, user, count(user) - 1)
    else
      redis.call('HDEL', counts, user)
      fields[size + 1], fields[size + 2] = 'last', '1'
    end
  end
  if tell then
    redis.call('XADD', events, 'MAXLEN', '~', ARGV[2], '*', unpack(fields))
    told = told + 1
  end
  i = i + 3 + size
end
redis.call('HSET', own, '/batch', ARGV[1])
redis.call('PEXPIRE', own, ARGV[3])
return told
