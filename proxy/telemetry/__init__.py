"""What is told to the outside: Prometheus metrics and one log line per request."""
