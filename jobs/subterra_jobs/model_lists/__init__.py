"""What providers list about their models."""
