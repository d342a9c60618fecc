"""The train stage: synthetic conversations in, a Hugging Face model directory out."""
