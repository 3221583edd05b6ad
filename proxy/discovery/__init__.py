"""An edge: finds the pods behind a Service, and makes them the replicas of dedicated targets."""
