"""`dropmill doctor`: what it examines on this machine and on the connection to a server."""
