//! Where bytes are: segments, addresses, extents, and the numbers that order them.

use std::fmt;

/// A place on the disk: a segment and a byte offset in it, packed into 64 bits.
///
/// ```
/// use thunderhead::format::Address;
///
/// let address = Address::new(3, 512);
/// assert_eq!((address.segment(), address.offset()), (3, 512));
/// assert_eq!(address.plus(8), Address::new(3, 520));
/// assert_eq!(Address::from_bits(address.to_bits()), address);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(u64);

impl Address {
    /// The address of a byte in a segment.
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self((segment as u64) << 32 | offset as u64)
    }

    /// The number of the segment, counted from zero.
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The byte offset in the segment.
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The 64 bits as they stand on the disk: segment in the upper half.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The address from its 64 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The address some bytes further on in the same segment. The caller keeps within it.
    pub const fn plus(self, bytes: u32) -> Self {
        Self::new(self.segment(), self.offset() + bytes)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of bytes in one segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Where it begins.
    pub address: Address,
    /// How many bytes it has.
    pub length: u32,
}

impl Extent {
    /// The extent of `length` bytes at `address`.
    pub const fn new(address: Address, length: u32) -> Self {
        Self { address, length }
    }

    /// The extent enlarged at its end to whole sectors: what it occupies on the disk.
    pub const fn whole_sectors(self, sector_bytes: u32) -> Self {
        Self {
            address: self.address,
            length: self.length.next_multiple_of(sector_bytes),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.address, self.length)
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The generation of the tree that an extent was written for. Every flush of pending operations
/// makes a new generation; numbers only grow, over the whole life of a store. Together with its
/// address it names a page for ever: an address is not used twice within one birth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Birth(pub u64);

/// The number of a commit. Commits are totally ordered by it, without gaps, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// The number of the next commit.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Sixteen random bytes that tell a store from every other one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
