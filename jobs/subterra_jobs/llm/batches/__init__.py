"""Many calls at once for less money: batches of both providers, remembered in the store and settled once."""
