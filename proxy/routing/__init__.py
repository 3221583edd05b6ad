"""The decision: pure functions from (policy, facts, readings) to a plan or a refusal. No I/O, clock or chance."""
