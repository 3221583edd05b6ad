"""The Kubernetes cluster that this process runs in: how its API server is asked, and what names in it mean."""
