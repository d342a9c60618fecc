"""Commands for who writes a procedure."""
