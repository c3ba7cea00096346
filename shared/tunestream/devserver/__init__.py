"""A development model server: OpenAI's completions over one base model, vLLM's adapter routes."""
