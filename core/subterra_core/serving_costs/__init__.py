"""What a served conversation costs: measured, compared with hosted models, and until the compilation has paid for itself."""
