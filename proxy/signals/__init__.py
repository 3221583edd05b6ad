"""What this process observes of its targets: in-flight, latency windows, breakers."""
