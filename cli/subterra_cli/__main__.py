"""``python -m subterra_cli``: the ``subterra`` command."""

from subterra_cli.main import app

app(prog_name="subterra")
