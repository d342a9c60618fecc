"""DeepSpeed's training of the bundled model on CPUs against a plain loop."""
