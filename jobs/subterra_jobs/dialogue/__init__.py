"""What generation and evaluation share about dialogues: sampling, scripted speakers, prompt blocks."""
