"""Fork storms against a Forkstorm server: Locust users, and the measurement behind `make storm`."""
