"""Decisions about a CompiledAgent."""
