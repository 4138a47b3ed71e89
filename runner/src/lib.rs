//! Settles kernel-patch disputes with evidence.
