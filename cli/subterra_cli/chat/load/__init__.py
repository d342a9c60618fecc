"""Load tests of a served agent with scripted customers."""
