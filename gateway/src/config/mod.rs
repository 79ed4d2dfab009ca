//! The gateway's one configuration file, read into valid options.
