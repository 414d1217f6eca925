//! Listings in AWS's catalog and their import into products and plans.
