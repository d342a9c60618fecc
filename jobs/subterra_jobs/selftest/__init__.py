"""Whether an image can do on this machine what it promises: each engine takes one small step."""
