//! A program that ends at once: in PID 1's place, the kernel's panic.

fn main() {}
