"""Pure domain logic shared by operator, jobs and CLI: procedures, the gate, drawings, prices."""
