-- Revokes one token, and tells the nodes.
-- KEYS[1]  that the token is revoked
-- ARGV[1]  until when that is kept, ms since 1970   ARGV[2] control channel   ARGV[3] command to the nodes
if not redis.call('SET', KEYS[1], '1', 'NX', 'PXAT', ARGV[1]) then
  -- A WAIT that follows is about this connection's own writes, so there has to be one.
  redis.call('SET', KEYS[1], '1', 'KEEPTTL')
  redis.call('PEXPIREAT', KEYS[1], ARGV[1], 'GT')
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return redis.status_reply('OK')
