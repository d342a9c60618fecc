"""What scripted customers say, in more phrasings and with other values than the author's examples."""
