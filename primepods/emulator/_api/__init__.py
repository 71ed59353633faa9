"""API endpoints and their JSON shapes, without sockets."""
