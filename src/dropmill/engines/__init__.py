"""Concrete engines behind the ports. Only `dropmill.app` chooses among them."""
