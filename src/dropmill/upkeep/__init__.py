"""What runs in the background: the event log, retention and the webhook."""
