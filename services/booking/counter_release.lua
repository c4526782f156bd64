-- Take back the leases of requests that PostgreSQL has refused.
--
-- KEYS  leases of one slot
-- ARGV  the user of each request
for _, user in ipairs(ARGV) do
  local score = redis.call('ZSCORE', KEYS[1], user)
  if score and score % 1024 <= 1 then
    redis.call('ZREM', KEYS[1], user)
  elseif score then
    redis.call('ZADD', KEYS[1], string.format('%.0f', score - 1), user)
  end
end
return 0
