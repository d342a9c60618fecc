"""Labels, alignments and judgements of conversations."""
