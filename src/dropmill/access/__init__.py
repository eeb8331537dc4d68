"""Who a caller is, and who may do what. Knows ports, and nothing of HTTP."""
