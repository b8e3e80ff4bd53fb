"""Networks that others trained, with weights from their packages."""
