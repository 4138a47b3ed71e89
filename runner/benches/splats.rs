//! How fast is a console read?
fn main() {}
