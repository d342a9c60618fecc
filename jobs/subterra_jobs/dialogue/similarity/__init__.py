"""Which of the author's examples free words are most like."""
