-- Appends messages to the logs of their channels and publishes them, in the order given. Each is a step of its own:
-- what is wrong with one leaves the others alone.
-- KEYS[1]  result of this try: there where a retry has taken its place (settle.lua)
-- KEYS[2], KEYS[3], ...  for each message its log and last; where it has an idempotency key, then its result:
--          "<id>:<nonce>" of the message that was published under this key; where it has limits of its own, then
--          retention: "<id> <max messages> <max age>"; where it has a collapse key, then the id of the newest with it,
--          and the tombstones of the channel; where the owner's confirmation is awaited, then the channels for which it is
-- ARGV[1], ARGV[2], ...  runs of messages that are alike. First how many, how and limits. How is made of letters: k they
--          have idempotency keys, o they have limits of their own, c they have collapse keys, u the owner's confirmation is awaited,
--          s their logs are short, w a WAIT follows. Limits are
--          "<max messages> <max age> <for how long the log may have to be kept> <how long the last id is kept> <how
--          long a result is kept>", in seconds. Then of each message: live channel, nonce (behind it "/" and the
--          traceparent, if it has one, then "+" and the extension, if it has one), body
-- Returns  a line for each: "<id>"; "<id>:1" if another call had published under this key; "-<error>".
--          (A string: a table costs Redis a tenth more.) An error that all have is the reply itself.
-- Everybody waits for this script: what it does for each message is written out, as calls of functions cost as well.
if redis.call('GET', KEYS[1]) then
  return redis.error_reply('SUPERSEDED a retry has taken the place of this try')
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local replies, number, errors = {}, 0, 0
local key, argument = 2, 1

while argument <= #ARGV do
  local how, limits = ARGV[argument + 1], ARGV[argument + 2]
  local keyed, own = string.find(how, 'k', 1, true), string.find(how, 'o', 1, true)
  local collapses = string.find(how, 'c', 1, true)
  local awaited = string.find(how, 'u', 1, true)
  local always = own or string.find(how, 's', 1, true)
  local last_argument = argument + 3 * ARGV[argument]
  while argument < last_argument do
    argument = argument + 3
    local log, last, result, retention = KEYS[key], KEYS[key + 1], nil, nil
    local collapse, removed, awaiting = nil, nil, nil
    key = key + 2
    if keyed then
      result, key = KEYS[key], key + 1
    end
    if own then
      retention, key = KEYS[key], key + 1
    end
    if collapses then
      collapse, removed, key = KEYS[key], KEYS[key + 1], key + 2
    end
    if awaited then
      awaiting, key = KEYS[key], key + 1
    end
    local nonce, problem = ARGV[argument + 1], nil
    -- Each has its own microsecond, which has passed when its turn comes: several may be of one channel.
    local id = now + number
    number = number + 1
    -- tostring() would write 1.7e+15
    local name = string.format('%.0f', id)

    local published = result and redis.pcall('GET', result)
    local before = not published and redis.pcall('SET', last, name, 'KEEPTTL', 'GET')
    if type(published) == 'string' then
      -- WAIT is about this connection's own writes, so there has to be one; it covers all before it.
      if string.find(how, 'w', 1, true) then redis.pcall('SET', result, published, 'KEEPTTL') end
      local first, by = string.match(published, '^(%d+):(.*)')
      name = by == string.match(nonce, '^[^+/]*') and first or first .. ':1'
    elseif published or type(before) == 'table' then
      problem = (published or before).err
    else
      -- The chain goes on where the last id is gone.
      local prev = before or redis.pcall('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2] or '0'
      if id <= tonumber(prev) then
        id = prev + 1
        name = string.format('%.0f', id)
        redis.pcall('SET', last, name, 'KEEPTTL')
      end
      local entry = name .. ':' .. prev .. ':' .. nonce .. ':' .. ARGV[argument + 2]
      local added = redis.pcall('ZADD', log, name, entry)
      if type(added) == 'table' then
        problem = added.err
        -- A last id without its message would look like a loss.
        if before then
          redis.pcall('SET', last, before, 'KEEPTTL')
        else
          redis.pcall('EXPIRE', last, 0)
        end
      else
        -- The log may hold more than its limits for a while: whoever reads it leaves that out (read.lua). So it is
        -- trimmed, and made to expire, with about every 16th message and with the first of a minute.
        local is_due = always or not before or id % 16 == 0
          or math.floor(id / 60000000) ~= math.floor(prev / 60000000)
        if is_due or result or collapse then
          local messages, age, kept, positions, results = string.match(limits, '(%d+) (%d+) (%d+) (%d+) (%d+)')
          if collapse then
            -- Before the log is trimmed, for which the older message does not count.
            local older = redis.pcall('GET', collapse)
            local replaced = type(older) == 'string' and redis.pcall('ZRANGEBYSCORE', log, older, older)[1]
            if replaced then
              -- As delete.lua does. Between both messages there is no tombstone.
              local from, nonces = string.match(replaced, '^%d+:(%d+):([^:+/]*)')
              local near = redis.pcall('ZRANGEBYSCORE', removed, from, '+inf', 'LIMIT', '0', '2')
              local its_id, its_prev, its_first, its_nonces = string.match(near[1] or '', '^(%d+):(%d+):(%d+)|([^:]*)')
              local below, above, first = its_id == from, nil, older
              if below then
                nonces, from, first = nonces .. ',' .. from .. '=' .. its_nonces, its_prev, its_first
                its_id, its_prev, its_first, its_nonces = string.match(near[2] or '', '^(%d+):(%d+):(%d+)|([^:]*)')
              end
              if its_prev == older then
                above = near[below and 2 or 1]
                nonces, older = its_nonces .. ',' .. older .. '=' .. nonces, its_id
              end
              redis.pcall('ZADD', removed, older, older .. ':' .. from .. ':' .. first .. '|' .. string.sub(nonces, 1, 1000) .. ':')
              redis.pcall('ZREM', log, replaced)
              if below then redis.pcall('ZREM', removed, near[1]) end
              if above then redis.pcall('ZREM', removed, above) end
              if is_due or not below then
                redis.pcall('ZREMRANGEBYRANK', removed, 0, -2 - messages)
                redis.pcall('EXPIRE', removed, kept + 60)
              end
            end
            redis.pcall('SET', collapse, name, 'EX', kept + 60)
          end
          if is_due then
            redis.pcall('ZREMRANGEBYRANK', log, 0, -1 - messages)
            redis.pcall('ZREMRANGEBYSCORE', log, '-inf', string.format('(%.0f', id - age * 1000000))
            -- Until the first of the next minute it may not be due again.
            redis.pcall('EXPIRE', log, kept + 60)
            redis.pcall('EXPIRE', last, positions + 60)
          end
          if result then
            redis.pcall('SET', result, name .. ':' .. string.match(nonce, '^[^+/]*'), 'EX', results)
          end
          if own then
            redis.pcall('SET', retention, name .. ' ' .. messages .. ' ' .. age, 'EX', positions)
          end
        end
        if awaiting then redis.pcall('ZADD', awaiting, 'NX', name, string.match(log, ':log:{(.*)}$')) end
        local heard = redis.pcall('PUBLISH', ARGV[argument], entry)
        if type(heard) == 'table' then problem = heard.err .. ' script: the message is in the log' end
      end
    end
    if problem then
      name = '-' .. problem
      if name == (replies[1] or name) then errors = errors + 1 end
    end
    replies[number] = name
  end
  argument = last_argument + 3
end
if errors == number then return redis.error_reply(string.sub(replies[1], 2)) end
return table.concat(replies, '\n')
