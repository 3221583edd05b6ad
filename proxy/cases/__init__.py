"""Requests and readings that were made up or recorded, put to the router as if they were real: tests, diff, explain."""
