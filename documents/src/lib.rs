//! Documents in, elements and chunks out. Everything here is a plain function of bytes: no network, no store, no async.
//! Knows file formats, sentences and chunks, and how to read a document in a child process whose limits cost that document alone.
//! Must never import: an RPC, an async runtime, an object store, a tensor.

pub mod chunk;
pub mod element;
pub mod format;
pub mod isolate;
pub mod pdf;
pub mod read;
pub mod sentences;

mod build;
mod decode;
mod docx;
mod html;
mod markdown;
mod plain;
mod table;
mod tables;
