//! A second ring, with a world behind it: any program written on a lane runs here under one seed.
//!
//! A [`World`] has machines with disks, a network between them, clocks, and faults. Time is simulated; lanes
//! take turns in one thread, in an order that follows from the seed; every poll of a task is charged some
//! simulated CPU. The same seed gives the same run, event for event, on every machine: [`World::trace_hash`]
//! is equal.
//!
//! Rules are apart from what drives them: [the image of a file](image), [names](names), [the disk](disk)
//! and [one direction of a connection](pipe) know no time and no ring; [files](files) and
//! [sockets](sockets) decide when things take effect and what befalls them; [the kernel](kernel) keeps order.
//!
//! It is never kinder than a machine: a durable write persists itself and nothing else, an unflushed
//! sector survives on its own or not, a name lasts when its directory was flushed.
//!
//! ```
//! use std::cell::Cell;
//! use std::rc::Rc;
//! use corelane_core::buf::Buf;
//! use corelane_core::ring::sim::{Cut, Faults, World};
//! use corelane_core::ring::{Access, Sync};
//! use corelane_core::time::Nanos;
//!
//! let mut world = World::new(7, Faults::none());
//! let node = world.node(1);
//! let written = Rc::new(Cell::new(false));
//! let told = Rc::clone(&written);
//! world.start(node, move |lane| {
//!     let told = Rc::clone(&told);
//!     async move {
//!         let access = Access { write: true, create: true, ..Access::default() };
//!         let (file, _) = lane.open("/greeting", access).await.expect("created");
//!         lane.flush_dir("/").await.expect("its name is durable");
//!         let data = Buf::copy_of(b"hello").freeze();
//!         lane.write_all(&file, 0, data, Sync::Data).await.expect("written");
//!         told.set(true);
//!     }
//! });
//! assert!(world.run_to(Nanos::secs(1), || written.get()));
//! world.cut_power(node, Cut::KeepNone);
//! assert_eq!(world.disk(node).content("/greeting").as_deref(), Some(&b"hello"[..]));
//! ```

mod chance;
mod clock;
mod disk;
mod faults;
mod files;
mod image;
mod kernel;
mod names;
mod pipe;
mod ring;
mod seeds;
mod sockets;
mod trace;
mod world;

pub use chance::Chance;
pub use disk::{Disk, Hurt, HurtKind};
pub use faults::{Fault, Faults, Reached};
pub use image::{Cut, SECTOR_BYTES};
pub use seeds::seeds;
pub use trace::Trace;
pub use world::{CrashPoint, NodeId, World};
