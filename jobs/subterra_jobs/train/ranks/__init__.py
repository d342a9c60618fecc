"""The processes that train: started, followed, and asked why they failed."""
