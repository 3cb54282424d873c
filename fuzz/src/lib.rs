//! What the fuzz targets need besides the library: a second parser, and what is known of where it disagrees.

pub mod differential;
mod facts;
mod known;
