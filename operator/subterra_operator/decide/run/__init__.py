"""Decisions about a CompileRun."""
