//! A log inside this process, on its disk.
