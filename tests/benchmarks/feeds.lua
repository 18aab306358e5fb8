-- For wrk: one member after the other asks for the page that PAGE names; TOKENS names a file.

local requests = {}
local at = 0

function init()
  for token in io.lines(os.getenv("TOKENS")) do
    local headers = { ["Authorization"] = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("GET", os.getenv("PAGE"), headers)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
