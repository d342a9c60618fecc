"""Stand-ins and test objects that tests and benchmarks share."""
