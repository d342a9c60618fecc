"""The promotion gate: bounds, margins, floors, verdict."""
