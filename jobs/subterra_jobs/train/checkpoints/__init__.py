"""What a training keeps: one state to resume from, and the weights with the lowest held-out loss."""
