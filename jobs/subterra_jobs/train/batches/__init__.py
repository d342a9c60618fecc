"""What each rank computes at each step: conversations in micro-batches, without padding."""
