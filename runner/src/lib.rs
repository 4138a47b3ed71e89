//! Settles kernel-patch disputes with evidence.

pub mod observe;
