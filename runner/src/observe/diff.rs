//! What a patch added, removed or changed.
