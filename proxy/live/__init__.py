"""One view of now: what the console and `spillway top` show, made once for all who look."""
