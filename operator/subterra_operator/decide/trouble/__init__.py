"""Why a pod cannot be made or cannot run, read from the objects that the cluster reports."""
