"""Who sent a request as far as the network tells: the address at once, the host name once DNS has answered."""
