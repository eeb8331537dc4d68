"""Live updates: who may follow what, one subscriber's snapshot and events, and the state that handlers read."""
