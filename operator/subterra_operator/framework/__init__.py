"""kopf as the operator's framework: handlers feed the controller, a census checks what they delivered, lives follow each other."""
