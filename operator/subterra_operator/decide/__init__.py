"""Decisions: from a snapshot and the time to the objects to write. Pure, without client and clock."""
