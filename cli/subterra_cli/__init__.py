"""The command line: look at a procedure, watch an agent being compiled, talk to it."""
