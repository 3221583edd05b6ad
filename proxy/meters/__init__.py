"""The meters: what every request and every GPU-hour costs, kept in Valkey or Redis, never waited for by a request."""
