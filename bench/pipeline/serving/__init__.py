"""What clients of a served model notice of rollouts, and how fast it answers."""
