-- Revokes all tokens of a user that were issued before a time, and tells the nodes. An earlier time than that of
-- before changes nothing.
-- KEYS[1]  before which time the user's tokens are revoked
-- ARGV[1]  the time, seconds since 1970   ARGV[2] until when it is kept, ms since 1970, or "" for ever
-- ARGV[3]  control channel   ARGV[4] command to the nodes
local before = redis.call('GET', KEYS[1])
if not before or tonumber(before) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
  if ARGV[2] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
else
  -- A WAIT that follows is about this connection's own writes, so there has to be one.
  redis.call('SET', KEYS[1], before, 'KEEPTTL')
  if ARGV[2] == '' then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIREAT', KEYS[1], ARGV[2], 'GT')  -- what is kept for ever stays so
  end
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return redis.status_reply('OK')
