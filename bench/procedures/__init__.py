"""What is measured of procedures, without a model."""
