"""The train stage: turns synthetic conversations into a Hugging Face model directory."""
