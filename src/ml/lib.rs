//! kiln-ml.
