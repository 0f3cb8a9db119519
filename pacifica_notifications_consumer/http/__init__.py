"""The HTTP server of the endpoint, the status page and the sandbox."""
