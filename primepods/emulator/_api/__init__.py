"""API endpoints and their JSON shapes: from request to response, without sockets."""
