-- Puts an event aside that its group cannot handle, and acknowledges it. Twice does no more than once.
-- KEYS[1]  events   KEYS[2] events that were set aside
-- ARGV[1]  group   ARGV[2] id of the event   ARGV[3] so many are kept, or a few more
-- ARGV[4], ...  fields and values
-- Returns  1, or 0 when the group has no such event to handle
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
return 1
