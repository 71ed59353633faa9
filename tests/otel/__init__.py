"""OpenTelemetry spans and metrics."""
