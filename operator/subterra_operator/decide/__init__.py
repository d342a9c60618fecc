"""Decisions: a snapshot and the time in, what should be written out. Pure, without client and clock."""
