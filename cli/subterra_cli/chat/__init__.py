"""`subterra chat`: finding the served agent, the facts it needs, what it was tested for, and the conversation."""
