"""HTTP and WebSocket: Quart blueprints over the capabilities."""
