"""Commands for operators of consumers, one module each."""
