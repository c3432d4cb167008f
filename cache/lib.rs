//! kiln-cache.
