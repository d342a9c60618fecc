"""``python -m subterra_operator``."""

from subterra_operator.main import main

main()
