"""What the limiter runs inside Redis, each as one atomic step by the server's own clock.

An account is a hash: `i` the number of its running window, `c` and `p` what was counted in that
and in the one before, and for each reservation still open its id with "window:amount". Beside it
a sorted set, its leases: the same ids by the millisecond they expire at. A gateway that dies stops
renewing; whoever looks at the account next refunds what it had reserved. Concurrency is such a set
alone. Every key expires by itself.

Kinds of limit: `r` is counted, `h` is counted and held until settled, `c` is a place. `d` and `m`
are budgets for a day or month of the calendar in UTC: held likewise, but nothing slides.
Amounts are written with %.0f, since Lua would round large numbers to 14 digits.
"""

from typing import Final

_COMMON: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number) return string.format('%.0f', number) end

-- The number of the month of the calendar that days since 1970 fall in, years times twelve and the
-- months before it: years are taken to begin in March, so that a leap day ends one.
local function month(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local day = z - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524)
    - math.floor(day / 146096)) / 365)
  local rest = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return (era * 400 + year) * 12 + math.floor((5 * rest + 2) / 153) + 2
end

-- A window's number and counts as of now. A server whose clock is behind its predecessor's goes on
-- with the later window.
local function load(account, kind, window)
  local index = math.floor(now / window)
  if kind == 'm' then index = month(math.floor(now / 86400000)) end
  local found = redis.call('HMGET', account, 'i', 'c', 'p')
  local at, current, previous = tonumber(found[1]), tonumber(found[2]) or 0, tonumber(found[3]) or 0
  if at and at > index then index = at end
  if at ~= index then
    previous = (at == index - 1) and current or 0
    current = 0
  end
  return {index = index, current = current, previous = previous}
end

local function save(account, counts, ttl)
  redis.call('HSET', account, 'i', text(counts.index), 'c', text(counts.current),
    'p', text(counts.previous))
  redis.call('PEXPIRE', account, ttl)
end

local function refund(counts, index, amount)
  if index == counts.index then
    counts.current = math.max(0, counts.current - amount)
  elseif index == counts.index - 1 then
    counts.previous = math.max(0, counts.previous - amount)
  end
end
"""

TAKE: Final = (
    _COMMON
    + """
local id, lease = ARGV[1], tonumber(ARGV[2])
local limits, taken, k = {}, {true, true}, 1

for a = 3, #ARGV, 5 do
  local l = {kind = ARGV[a], window = tonumber(ARGV[a + 1]), amount = tonumber(ARGV[a + 2]),
    cost = tonumber(ARGV[a + 3]), group = tonumber(ARGV[a + 4]), account = KEYS[k]}
  k = k + 1
  if l.kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', l.account, '-inf', now)
    l.counts = {index = 0, current = redis.call('ZCARD', l.account), previous = 0}
    l.allowed = l.counts.current < l.amount
  else
    l.counts = load(l.account, l.kind, l.window)
    l.ttl = 2 * l.window
    if l.kind ~= 'r' then
      l.leases = KEYS[k]
      k = k + 1
      l.ttl = l.ttl + lease
      local dead = redis.call('ZRANGEBYSCORE', l.leases, '-inf', now, 'LIMIT', 0, 100)
      for _, other in ipairs(dead) do
        local held = redis.call('HGET', l.account, other)
        if held then
          local index, amount = string.match(held, '^(%d+):(%d+)$')
          refund(l.counts, tonumber(index), tonumber(amount))
          redis.call('HDEL', l.account, other)
        end
        redis.call('ZREM', l.leases, other)
      end
      if #dead > 0 then save(l.account, l.counts, l.ttl) end
    end
    local left = (l.counts.index + 1) * l.window - now
    local used = l.counts.current
    if l.kind == 'r' or l.kind == 'h' then
      used = used + l.counts.previous * math.min(left, l.window) / l.window
    end
    l.allowed = used < l.amount - l.cost + 1
  end
  if not l.allowed then taken[l.group] = false end
  limits[#limits + 1] = l
end

if not taken[1] then taken[2] = false end
if id == '' then taken = {false, false} end
local answer = {taken[1] and 1 or 0, taken[2] and 1 or 0, now}
for _, l in ipairs(limits) do
  local counts = l.counts
  answer[#answer + 1] = counts.index
  answer[#answer + 1] = counts.current
  answer[#answer + 1] = counts.previous
  if taken[l.group] then
    if l.kind == 'c' then
      redis.call('ZADD', l.account, now + lease, id)
      redis.call('PEXPIRE', l.account, lease)
    else
      counts.current = counts.current + l.cost
      save(l.account, counts, l.ttl)
      if l.kind ~= 'r' then
        redis.call('HSET', l.account, id, text(counts.index) .. ':' .. text(l.cost))
        redis.call('ZADD', l.leases, now + lease, id)
        redis.call('PEXPIRE', l.leases, l.ttl)
      end
    end
  end
end
return answer
"""
)
"""Check all limits of a request and take from all of them, or from none.

KEYS: for each limit its account, for what is held then its leases. ARGV: an id (empty to look and
take nothing), the lease in ms, and for
each limit its kind, window in ms, amount, cost, and group (1 enforced, 2 shadow). Returns 1 or 0
for each group, the time in ms, and for each limit the number of its window and both counts as they
were before.
"""

SETTLE: Final = (
    _COMMON
    + """
local lease, k = tonumber(ARGV[1]), 1
for a = 2, #ARGV, 5 do
  local kind, id, window, spent = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local account = KEYS[k]
  k = k + 1
  if kind == 'c' then
    redis.call('ZREM', account, id)
  else
    local leases = KEYS[k]
    k = k + 1
    local held = redis.call('HGET', account, id)
    local counts, change = load(account, kind, window), 0
    if held then
      local index, amount = string.match(held, '^(%d+):(%d+)$')
      change = spent - tonumber(amount)
      -- What a request cost belongs to the period in which it began.
      if kind ~= 'h' and tonumber(index) ~= counts.index then change = 0 end
      if change < 0 then refund(counts, tonumber(index), -change) end
      redis.call('HDEL', account, id)
      redis.call('ZREM', leases, id)
    elseif ARGV[a + 4] == '1' then
      change = spent
    end
    if change > 0 then counts.current = counts.current + change end
    if held or change > 0 then save(account, counts, 2 * window + lease) end
  end
end
return 1
"""
)
"""Correct reservations to what was spent, and free places.

KEYS as above. ARGV: the lease in ms, and for each limit its kind, the id, window in ms, what was
spent, and 1 where that is charged even if the reservation is gone: it had expired and was
refunded. On a second try it may be gone because the first one arrived after all; then 0.
"""

RENEW: Final = (
    _COMMON
    + """
local lease, k = tonumber(ARGV[1]), 1
for a = 2, #ARGV, 3 do
  local kind, id, window = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2])
  if kind == 'c' then
    redis.call('ZADD', KEYS[k], now + lease, id)
    redis.call('PEXPIRE', KEYS[k], lease)
    k = k + 1
  else
    if redis.call('HEXISTS', KEYS[k], id) == 1 then
      redis.call('ZADD', KEYS[k + 1], now + lease, id)
      redis.call('PEXPIRE', KEYS[k], 2 * window + lease)
      redis.call('PEXPIRE', KEYS[k + 1], 2 * window + lease)
    end
    k = k + 2
  end
end
return 1
"""
)
"""Put off the expiry of what is still in progress.

KEYS as above. ARGV: the lease in ms, and for each limit its kind, the id, and the window in ms.
"""
