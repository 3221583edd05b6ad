"""The store on real Redis servers: alone, over TLS, behind sentinels, in a cluster."""
