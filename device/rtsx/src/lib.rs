//! A Realtek RTS5261-like PCIe card reader
