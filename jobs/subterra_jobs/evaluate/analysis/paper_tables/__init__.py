"""The tables of the paper (arXiv 2605.22502) for an evaluation with baselines. Descriptive: none of them decides anything."""
