-- Revokes one token, and tells the nodes.
-- KEYS[1]  that the token is revoked
-- ARGV[1]  until when that is kept, ms since 1970   ARGV[2] control channel   ARGV[3] command to the nodes
redis.call('SET', KEYS[1], '1', 'NX', 'PXAT', ARGV[1])
-- It may be there already, and must not be forgotten sooner.
redis.call('PEXPIREAT', KEYS[1], ARGV[1], 'GT')
redis.call('PUBLISH', ARGV[2], ARGV[3])
return redis.status_reply('OK')
