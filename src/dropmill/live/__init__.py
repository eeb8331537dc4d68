"""What is seen live: the wire's shapes, and one subscriber's snapshot, replay and follow."""
