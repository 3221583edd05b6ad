"""The `spillway` command: one small file a verb."""
