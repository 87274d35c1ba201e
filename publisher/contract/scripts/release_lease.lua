-- Gives up a lease, unless another node has it by now.
-- KEYS[1]  the node that has the lease
-- ARGV[1]  this node
-- Returns  1 if it had the lease, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
