//! An SD memory card: command table, state machine, registers
