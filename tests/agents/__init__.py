"""`primepods mcp`: what agents can see, rent and give back, through the official client."""
