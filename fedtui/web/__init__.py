"""The interface in a browser: a web server on loopback, and one process of the interface for each tab."""
