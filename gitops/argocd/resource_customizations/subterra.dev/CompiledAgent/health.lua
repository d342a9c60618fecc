-- Healthy while something serves, whatever happens to a newer version: the message says why it is not up to date.
-- Suspended: nothing serves, by the user's choice. Degraded: nothing serves, and a person is needed.
local status = obj.status or {}
local chosen = { Suspended = true, AwaitingTrigger = true, AwaitingApproval = true }

local function condition(kind)
  for _, item in ipairs(status.conditions or {}) do
    if item.type == kind then
      return item
    end
  end
  return {}
end

if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not reconciled this generation yet" }
end

local ready, upToDate = condition("Ready"), condition("UpToDate")
local stalled, reconciling = condition("Stalled"), condition("Reconciling")
if stalled.status == "True" then
  return { status = chosen[stalled.reason] and "Suspended" or "Degraded", message = stalled.message or "" }
end
if reconciling.status == "True" then
  return { status = "Progressing", message = reconciling.message or "" }
end
if ready.status == "True" and upToDate.status == "True" then
  return { status = "Healthy", message = ready.message or "" }
end
if ready.status == "True" then
  return { status = "Healthy", message = "serves, not up to date: " .. (upToDate.message or "") }
end
return { status = "Progressing", message = ready.message or "" }
