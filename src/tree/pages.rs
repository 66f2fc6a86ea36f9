//! The pages of a store: loaded, verified and checked once, then kept in the frame table.

use crate::cache::{FrameTable, Handle, Install};
use crate::disk::{Disk, block_on};
use crate::error::{Error, Result};
use crate::format::{PagePointer, Settings, StoreId};
use crate::space::Space;
use crate::value::{Compression, OffTree, Shape};

use super::interior::Interior;
use super::merge::Operators;
use super::page::{Kind, Page};
use super::slice::Slice;

/// The highest level that a root can have. Three children a node make this enough for any disk.
pub(crate) const LEVEL_MAX: u8 = 60;

/// What the pointer to a page says about the page's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expect {
    /// A root: a leaf or an interior node of any level.
    Root,
    /// A node of this level.
    Level(u8),
    /// A slice of a journal.
    Slice,
}

impl Expect {
    /// Whether a page that was checked is what the pointer to it promised. A file made by somebody
    /// hostile can name one page from two places.
    #[inline]
    pub(crate) fn admits(self, page: &Page<'_>) -> bool {
        match self {
            Self::Root => !page.kind_is(Kind::Slice) && page.level() <= LEVEL_MAX,
            Self::Level(level) => !page.kind_is(Kind::Slice) && page.level() == level,
            Self::Slice => page.kind_is(Kind::Slice),
        }
    }
}

/// How many bytes may be read before they are needed. 0: none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Readahead {
    /// By a range or a cursor: pages.
    pub(crate) scan_bytes: usize,
    /// By the reader of a value: blocks of it.
    pub(crate) value_bytes: usize,
}

/// What everything that touches the tree needs.
pub(crate) struct Pages {
    pub(crate) disk: Disk,
    pub(crate) frames: FrameTable,
    pub(crate) space: Space,
    pub(crate) store: StoreId,
    pub(crate) settings: Settings,
    pub(crate) operators: Operators,
    pub(crate) readahead: Readahead,
    /// Of values that are written.
    pub(crate) compression: Compression,
}

impl Pages {
    /// How values are cut that are written from here on.
    pub(crate) fn value_shape(&self) -> Result<Shape> {
        let segment_bytes = self.disk.properties().segment_bytes;
        let shape = Shape::new(self.settings.block_bytes, segment_bytes)?;
        Ok(shape.compressed(self.compression))
    }

    /// The same, for one that is made of another or takes its place.
    pub(crate) fn value_shape_of(&self, value: &OffTree) -> Result<Shape> {
        let segment_bytes = self.disk.properties().segment_bytes;
        let shape = Shape::new(value.block_bytes, segment_bytes)?;
        Ok(shape.with_codec(value.codec, self.compression))
    }

    /// The page that a pointer names, from memory or from the disk.
    pub(crate) async fn load(&self, pointer: &PagePointer, expect: Expect) -> Result<Handle> {
        let handle = match self.frames.get(pointer.address, pointer.birth) {
            Some(handle) => handle,
            None => {
                let bytes = self.disk.read(pointer.extent()).await?;
                self.admit(pointer, bytes)?
            }
        };
        if !expect.admits(&Page::new(handle.bytes())) {
            return Err(Error::corrupt_at(
                pointer.extent(),
                format!("a page is not what its pointer promises: {expect:?}"),
            ));
        }
        Ok(handle)
    }

    /// The same for those who wait: flushes.
    pub(crate) fn load_waiting(&self, pointer: &PagePointer, expect: Expect) -> Result<Handle> {
        block_on(self.load(pointer, expect))
    }

    /// Verifies and checks what was read from the disk, and keeps it.
    fn admit(&self, pointer: &PagePointer, bytes: Vec<u8>) -> Result<Handle> {
        pointer.verify(self.store, &bytes)?;
        let hints = check(pointer, &bytes)?;
        let install = Install {
            level: level_of(&bytes),
            hints,
            dirty: false,
        };
        Ok(self
            .frames
            .install(pointer.address, pointer.birth, bytes, install))
    }
}

/// Checks a page of any kind; gives the number of pages it points to.
pub(crate) fn check(pointer: &PagePointer, bytes: &[u8]) -> Result<usize> {
    match bytes.first() {
        Some(1) => Page::check(bytes, pointer, Kind::Leaf).map(|_| 0),
        Some(2) => Interior::check(bytes, pointer).map(|node| node.children() + node.slices()),
        Some(3) => Slice::check(bytes, pointer).map(|_| 0),
        _ => Err(Error::corrupt_at(
            pointer.extent(),
            "a page of an unknown kind",
        )),
    }
}

pub(crate) fn level_of(bytes: &[u8]) -> u8 {
    bytes.get(1).copied().unwrap_or(0)
}
