-- Tell a slot's counter what a commit left, or what a reading found. May be repeated, lost, or come in any order.
--
-- KEYS  count, holders, leases of one slot
-- ARGV  system, timeline, started; before, version, taken, capacity ('' none), open; seen (Redis's ms);
--       is it a reading; how long to keep (ms); after how long a reading replaces what it contradicts (ms); holders...
-- Returns Redis's time in ms.
local count, holders, leases = KEYS[1], KEYS[2], KEYS[3]
local system, timeline, started = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local before, version, taken = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local capacity, open, reading = ARGV[7], ARGV[8], ARGV[10] == '1'
local keep, replace = ARGV[11], tonumber(ARGV[12])
local FIRST_HOLDER, MOST_STRETCHES = 13, 32

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seen = math.min(tonumber(ARGV[9]), now)

local got = redis.call('HMGET', count, 'system', 'timeline', 'started', 'known', 'version', 'taken', 'capacity', 'open',
  'seen', 'holders')
local had = {system = got[1], timeline = tonumber(got[2]), started = tonumber(got[3]), known = got[4],
  version = tonumber(got[5]), taken = tonumber(got[6]), capacity = got[7], open = got[8],
  seen = tonumber(got[9]), holders = tonumber(got[10])}
local known = had.system and had.timeline and had.started and had.known and had.version and had.seen and had.holders

if known and had.seen > now then had.seen = 0 end -- Redis's clock was set back: the record is of no known age
-- A reading that found less, long after the record was last said to be true: the record is of another history.
local contradicts = known and reading and seen > had.seen + replace

if known and (had.system ~= system or had.timeline ~= timeline or had.started ~= started) then
  local newer = had.system ~= system or timeline > had.timeline
    or (timeline == had.timeline and started > had.started)
  if not newer and not contradicts then return now end
  known = false
end
if known and had.version == version and (had.taken ~= taken or had.capacity ~= capacity or had.open ~= open) then
  -- Two states under one version: a reading is right, after a commit PostgreSQL is asked.
  if not reading then
    redis.call('DEL', count, holders)
    return now
  end
  had.known = ''
end
if known and version < had.version and contradicts then known = false end

if not known then
  redis.call('DEL', count, holders)
  had = {known = '', version = -1, seen = 0, holders = 0}
end
if redis.call('SCARD', holders) ~= had.holders then
  had.known = '' -- holders were evicted
end

if version >= had.version then
  redis.call('HSET', count, 'system', system, 'timeline', ARGV[2], 'started', ARGV[3], 'version', version,
    'taken', taken, 'capacity', capacity, 'open', open, 'seen', string.format('%.0f', math.max(had.seen, seen)))
end

-- "0-7 9-12": of the versions after 0 up to 7, and after 9 up to 12, all holders are known. Stretches that touch are joined.
local stretches = {{before, version}}
for from, to in string.gmatch(had.known, '(%d+)-(%d+)') do stretches[#stretches + 1] = {tonumber(from), tonumber(to)} end
table.sort(stretches, function(a, b) return a[1] < b[1] end)
local joined = {}
for _, stretch in ipairs(stretches) do
  local last = joined[#joined]
  if last and stretch[1] <= last[2] then
    last[2] = math.max(last[2], stretch[2])
  elseif stretch[1] < stretch[2] or stretch[1] == 0 then
    joined[#joined + 1] = stretch
  end
end
while #joined > MOST_STRETCHES do table.remove(joined, 2) end -- what is forgotten is read anew
for i, stretch in ipairs(joined) do joined[i] = string.format('%.0f-%.0f', stretch[1], stretch[2]) end

for i = FIRST_HOLDER, #ARGV do
  redis.call('SADD', holders, ARGV[i]) -- a member is never removed: to be one only leads to PostgreSQL
  redis.call('ZREM', leases, ARGV[i])
end
redis.call('HSET', count, 'known', table.concat(joined, ' '), 'holders', redis.call('SCARD', holders))
redis.call('PEXPIRE', count, keep)
redis.call('PEXPIRE', holders, keep)
return now
