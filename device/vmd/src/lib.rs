//! An Intel VMD endpoint: one function that carries a whole PCIe domain
