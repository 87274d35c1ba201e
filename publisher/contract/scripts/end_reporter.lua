-- Tells of the end of a dead node's connections, some at a time, unless the node has renewed its lease.
-- KEYS[1]  events   KEYS[2] how many connections each user has   KEYS[3] the dead node's connections
-- KEYS[4]  nodes that tell of events
-- ARGV[1]  the dead node   ARGV[2] so many events are kept, or a few more   ARGV[3] "1" where they are told
-- ARGV[4]  so many connections at a time
-- Returns  how many are left
local events, counts, own, nodes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local expiry = redis.call('ZSCORE', nodes, ARGV[1])
if not expiry or tonumber(expiry) > now then return 0 end
redis.call('HDEL', own, '/batch')
local found = redis.call('HRANDFIELD', own, ARGV[4], 'WITHVALUES')
for i = 1, #found, 2 do
  local connection, user = found[i], found[i + 1]
  local fields = {'kind', 'disconnected', 'user', user, 'connection', connection, 'node', ARGV[1], 'timestamp', string.format('%.0f', now)}
  redis.call('HDEL', own, connection)
  local before = tonumber(redis.call('HGET', counts, user) or 0)
  if before > 1 then
    redis.call('HSET', counts, user, before - 1)
  else
    redis.call('HDEL', counts, user)
    fields[11], fields[12] = 'last', '1'
  end
  if ARGV[3] == '1' then redis.call('XADD', events, 'MAXLEN', '~', ARGV[2], '*', unpack(fields)) end
end
local left = redis.call('HLEN', own)
if left == 0 then redis.call('ZREM', nodes, ARGV[1]) end
return left
