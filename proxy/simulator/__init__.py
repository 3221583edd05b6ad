"""Simulators, and called so: an engine that follows the linear step model, and a priced shared provider."""
