//! The `s3layers` program.
fn main() {}
