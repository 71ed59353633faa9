"""What several commands share: options, tables, messages, errors."""
