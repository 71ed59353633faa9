"""The endpoints and the shapes of their JSON: requests in, replies out, without a socket."""
