"""What is run and judged; `figures` draws it."""
