-- Healthy when all stages succeeded, even if the gate did not pass: the run did its work. Suspended: its results are kept.
local status = obj.status or {}

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

local succeeded, promotable, stalled = condition("Succeeded"), condition("Promotable"), condition("Stalled")
if stalled.status == "True" then
  return { status = "Degraded", message = stalled.message or "" }
end
if succeeded.status == "True" then
  return { status = "Healthy", message = (succeeded.message or "") .. ": " .. (promotable.message or "") }
end
if condition("Reconciling").status ~= "True" then
  return { status = "Suspended", message = succeeded.message or "" }
end
local progress = status.progress and " (" .. status.progress .. ")" or ""
return { status = "Progressing", message = (succeeded.message or "") .. progress }
