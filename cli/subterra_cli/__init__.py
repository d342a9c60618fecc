"""The command line: check and view procedures, follow a compilation, talk to the agent."""
