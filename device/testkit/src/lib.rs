//! For tests: guest memory, recording interrupts, a manual clock, a mini driver
