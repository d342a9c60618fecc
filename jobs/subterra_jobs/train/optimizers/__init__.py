"""How weights are updated: the optimizers, and DeepSpeed's settings for them."""
