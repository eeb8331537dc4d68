"""Background work: the event log, retention and the webhook."""
