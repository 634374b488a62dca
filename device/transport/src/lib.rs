//! Puts the machine behind a vfio-user socket
