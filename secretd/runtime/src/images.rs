//! Images of this node: what they are called, where their layers are, and how they come in.
//!
//! Reading order: [`mod@reference`] (names), `config` (what an image says of its containers), `index` (what is there),
//! `unpack` (a layer into a directory, safely), `changes` (Dockerfile instructions of an import), [`store`] (the seam's
//! implementation, one file a way in: import, load, pull).
//!
//! On disk, below `images/` of the data directory: `index.json`, `configs/HEX.json`, `layers/HEX/` (unpacked, named by
//! diff id) and `tmp/`, which is emptied at each start. A layer appears by a rename, an image by the index's: whatever
//! is interrupted leaves nothing.

mod archive;
mod changes;
pub mod config;
mod import;
mod index;
mod layer;
mod load;
mod pull;
pub mod reference;
pub mod store;
mod stream;
mod unpack;

pub use config::ContainerDefaults;
pub use store::{Config, ImageStore, OpenError, ResolvedImage};
