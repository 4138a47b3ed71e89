//! File, line and inlined callers, from a vmlinux.
