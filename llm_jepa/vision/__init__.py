"""VL-JEPA: questions about pictures, answered in embedding space."""
