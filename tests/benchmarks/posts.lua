-- Posts by many members, for wrk: TOKENS names a file with one token a line.
local tokens, turn = {}, 0
for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = line end
local body = os.getenv("BODY")

function request()
  turn = turn % #tokens + 1
  local headers = {["Authorization"] = "Bearer " .. tokens[turn], ["Content-Type"] = "application/json"}
  return wrk.format("POST", "/api/posts", headers, body)
end

function done(summary, latency)
  io.write(string.format(
    '{"rate":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f}\n',
    summary.requests / summary.duration * 1e6,
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
