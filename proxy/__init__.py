"""Spillway: an OpenAI-compatible proxy that fills your own GPUs first and spills to shared APIs by policy."""

__version__ = "0.1.0"
