-- Ask a slot's counter about a group of requests. It refuses by what is committed and known for sure, or says nothing.
--
-- KEYS  count, holders, leases of one slot
-- ARGV  system, timeline, started; how long a confirmation lasts, and a lease (ms); "user people" of each request, a line each
-- Returns {state, ...}: where state is 'ok', left, version, the record's age in ms and a letter for each request (room,
-- crowded, holder, full); elsewhere whether a request would find no room. (One string each way: 256 arguments and answers
-- cost the caller more than all the rest.)
local count, holders, leases = KEYS[1], KEYS[2], KEYS[3]
local fresh, lease = tonumber(ARGV[4]), tonumber(ARGV[5])

local got = redis.call('HMGET', count, 'system', 'timeline', 'started', 'known', 'version', 'taken', 'capacity', 'open',
  'seen', 'holders', 'leased')
local version, taken = tonumber(got[5]), tonumber(got[6])
local seen, members, leased = tonumber(got[9]), tonumber(got[10]), tonumber(got[11]) or 0
if not (got[1] and got[4] and version and taken and got[7] and got[8] and seen and members) then return {'missing', 0} end
if got[1] ~= ARGV[1] or got[2] ~= ARGV[2] or got[3] ~= ARGV[3] then return {'foreign', 0} end
if got[8] ~= '1' then return {'closed', 0} end
local capacity = got[7] ~= '' and tonumber(got[7]) or math.huge

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local age = now - seen
local unsure = nil
if got[4] ~= '0-' .. got[5] or redis.call('SCARD', holders) ~= members then unsure = 'incomplete'
elseif age < 0 or age > fresh then unsure = 'unconfirmed' end
if unsure then
  for people in string.gmatch(ARGV[6], ' (%d+)') do
    if taken + people > capacity then return {unsure, 1} end
  end
  return {unsure, 0}
end

-- The score of a lease is its end in ms times 1024, plus its people: 51 bits, exact in a double.
local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('(%.0f', now * 1024), 'WITHSCORES')
if #ended > 0 then
  for i = 2, #ended, 2 do leased = leased - ended[i] % 1024 end
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', string.format('(%.0f', now * 1024))
end
if redis.call('EXISTS', leases) == 0 then leased = 0 end

local verdicts = {}
for user, people in string.gmatch(ARGV[6], '(%S+) (%d+)') do
  people = tonumber(people)
  local verdict
  if taken + people > capacity then
    verdict = redis.call('SISMEMBER', holders, user) == 1 and 'h' or 'f'
  elseif taken + leased + people > capacity then
    verdict = 'c'
  else
    verdict = 'r'
    local held = math.min(people, 1023)
    local earlier = redis.call('ZSCORE', leases, user)
    if earlier then leased = leased - earlier % 1024 end
    redis.call('ZADD', leases, string.format('%.0f', (now + lease) * 1024 + held), user)
    leased = leased + held
  end
  verdicts[#verdicts + 1] = verdict
end
redis.call('HSET', count, 'leased', leased)
redis.call('PEXPIRE', leases, lease)
return {'ok', capacity == math.huge and -1 or capacity - taken, version, age, table.concat(verdicts)}
