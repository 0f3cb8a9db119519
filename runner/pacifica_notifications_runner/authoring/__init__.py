"""Commands for authors of consumers, one module each."""
