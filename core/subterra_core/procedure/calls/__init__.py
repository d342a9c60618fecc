"""Calls of other procedures: a procedure with calls becomes one flat procedure, before anything else reads it."""
