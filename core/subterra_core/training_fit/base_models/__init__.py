"""Which base models can be trained and served, and how families of them mark who speaks. Pure."""
