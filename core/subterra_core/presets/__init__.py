"""Complete settings of an agent by model and hardware, as data. Pure."""
