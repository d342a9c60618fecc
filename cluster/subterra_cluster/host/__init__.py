"""This machine: requirements, commands, and background processes."""
