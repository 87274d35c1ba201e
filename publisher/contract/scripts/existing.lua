-- Tells which keys are there.
-- KEYS[1], KEYS[2], ...  the keys
-- Returns  the numbers of those that are
local found = {}
for number, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then found[#found + 1] = number end
end
return found
