//! Starts the parts, supervises them and stops them in order.
