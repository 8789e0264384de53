"""Job documents: read, checked, resolved into tasks and content-addressed inputs."""
