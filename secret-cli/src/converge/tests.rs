//! When a service counts as converged, and when it never will be.
