"""What playing costs beside the calls themselves."""
