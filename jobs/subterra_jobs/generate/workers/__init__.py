"""Ray workers that write conversations."""
