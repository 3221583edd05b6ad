"""The policy: YAML at the edge (`schema`), checked and compiled (`compile`) into frozen values (`model`)."""
