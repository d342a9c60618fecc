"""Pure domain logic that operator, jobs and command line share: procedures, the gate, pictures, prices."""
