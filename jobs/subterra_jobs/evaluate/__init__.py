"""The evaluation stage: plays scenarios with the candidate, replays them against the procedure, scores and reports them."""
