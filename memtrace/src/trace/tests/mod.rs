//! From stored records to events and accounts, without a kernel: each test tells a story as the hooks would have
//! written it, byte for byte, and looks at what comes out.

mod accounts;
mod again;
mod attach;
mod batches;
mod bounded;
mod calls;
mod cloned;
mod container;
mod decode;
mod experiment;
mod forks;
mod giving_up;
mod machine;
mod many_cpus;
mod many_vmas;
mod matrix;
mod memory;
mod objects;
mod order;
mod random;
mod regions;
mod story;
mod tasks;
mod unsurveyed;

pub use story::adds_up;
