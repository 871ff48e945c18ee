"""The toolkit's own options, a dataclass for each part of a run; `JEPAConfig` inherits them all."""
