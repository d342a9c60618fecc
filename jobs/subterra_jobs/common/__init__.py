"""What the stages share: artifact store, typed errors, progress, scenarios and the scripted writer."""
