"""Words of scripted customers: locale data and how lines are composed from it."""
