"""HTTP in: the OpenAI and Anthropic surfaces, guards, authentication, health and the admin port."""
