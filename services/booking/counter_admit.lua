-- Ask a slot's counter about a group of requests. It refuses by what is committed and known for sure, or says nothing.
--
-- KEYS  count, holders, leases of one slot
-- ARGV  system, timeline, started; how long a confirmation lasts, and a lease (ms); then user, people of each request
-- Returns {state, ...}: where state is 'ok', left, version, the record's age in ms and a verdict for each request;
-- elsewhere whether a request would find no room.
local count, holders, leases = KEYS[1], KEYS[2], KEYS[3]
local fresh, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST_ASK = 6

local got = redis.call('HMGET', count, 'system', 'timeline', 'started', 'base', 'version', 'taken', 'capacity', 'open',
  'seen', 'holders', 'leased')
local base, version, taken = tonumber(got[4]), tonumber(got[5]), tonumber(got[6])
local seen, known, leased = tonumber(got[9]), tonumber(got[10]), tonumber(got[11]) or 0
if not (got[1] and base and version and taken and got[7] and got[8] and seen and known) then return {'missing', 0} end
if got[1] ~= ARGV[1] or got[2] ~= ARGV[2] or got[3] ~= ARGV[3] then return {'foreign', 0} end
if got[8] ~= '1' then return {'closed', 0} end
local capacity = got[7] ~= '' and tonumber(got[7]) or math.huge

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local age = now - seen
local unsure = nil
if base ~= 0 or redis.call('SCARD', holders) ~= known then unsure = 'incomplete'
elseif age < 0 or age > fresh then unsure = 'unconfirmed' end
if unsure then
  for i = FIRST_ASK, #ARGV, 2 do
    if taken + tonumber(ARGV[i + 1]) > capacity then return {unsure, 1} end
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

local answer = {'ok', capacity == math.huge and -1 or capacity - taken, version, age}
for i = FIRST_ASK, #ARGV, 2 do
  local user, people = ARGV[i], tonumber(ARGV[i + 1])
  local verdict
  if taken + people > capacity then
    verdict = redis.call('SISMEMBER', holders, user) == 1 and 'holder' or 'full'
  elseif taken + leased + people > capacity then
    verdict = 'crowded'
  else
    verdict = 'room'
    local held = math.min(people, 1023)
    local earlier = redis.call('ZSCORE', leases, user)
    if earlier then leased = leased - earlier % 1024 end
    redis.call('ZADD', leases, string.format('%.0f', (now + lease) * 1024 + held), user)
    leased = leased + held
  end
  answer[#answer + 1] = verdict
end
redis.call('HSET', count, 'leased', leased)
redis.call('PEXPIRE', leases, lease)
return answer
