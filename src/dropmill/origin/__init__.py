"""Who sent a request as far as the network shows: the address at once, the host name once DNS has answered."""
