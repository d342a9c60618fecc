"""What customers of scripted conversations say, in more phrasings than the author's examples."""
