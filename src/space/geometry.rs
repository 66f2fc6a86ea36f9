//! Segments and sectors: turns extents of bytes into ranges of sectors and back.

use crate::disk::Properties;
use crate::error::{Error, Result};
use crate::format::{Address, Extent};

/// The most segments of a store: a bound on what damaged numbers can make us believe.
const SEGMENTS_MAX: u32 = 1 << 26;

/// Sectors of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) segment: u32,
    pub(super) start: u32,
    pub(super) sectors: u32,
}

/// The sizes that a disk has.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub(super) segment_bytes: u32,
    pub(super) sector_bytes: u32,
    /// The sectors of a segment.
    pub(super) sectors: u32,
    /// The segments that the disk has room for, the last one perhaps in part.
    pub(super) segments_max: u32,
    /// The sectors of the segment numbered `segments_max - 1`.
    last_sectors: u32,
}

impl Geometry {
    pub(super) fn new(properties: &Properties) -> Self {
        let sectors = properties.segment_bytes / properties.sector_bytes;
        let room = properties
            .capacity_bytes
            .map_or(u64::MAX, |bytes| bytes / u64::from(properties.sector_bytes));
        let segments = room.div_ceil(sectors.into());
        let (segments_max, last_sectors) = match u32::try_from(segments) {
            Ok(segments) if segments <= SEGMENTS_MAX => {
                let before = u64::from(segments.saturating_sub(1)) * u64::from(sectors);
                (segments, (room - before) as u32)
            }
            _ => (SEGMENTS_MAX, sectors),
        };
        Self {
            segment_bytes: properties.segment_bytes,
            sector_bytes: properties.sector_bytes,
            sectors,
            segments_max,
            last_sectors,
        }
    }

    /// The sectors of a segment that the disk has room for.
    pub(super) fn limit(&self, segment: u32) -> u32 {
        if segment + 1 < self.segments_max {
            self.sectors
        } else if segment + 1 == self.segments_max {
            self.last_sectors
        } else {
            0
        }
    }

    /// The sectors that so many bytes take.
    pub(super) fn sectors_for(&self, bytes: u32) -> Result<u32> {
        if bytes == 0 || bytes > self.segment_bytes {
            return Err(Error::invalid(format!(
                "an extent of {bytes} bytes was asked for, where a segment has {}",
                self.segment_bytes
            )));
        }
        Ok(bytes.div_ceil(self.sector_bytes))
    }

    /// The sectors of an extent whose numbers may be damaged.
    pub(super) fn range(&self, extent: Extent) -> Result<Range> {
        let offset = extent.address.offset();
        let end = u64::from(offset) + u64::from(extent.length);
        if extent.length == 0
            || !offset.is_multiple_of(self.sector_bytes)
            || end > self.segment_bytes.into()
            || extent.address.segment() >= self.segments_max
        {
            return Err(Error::corrupt_at(extent, "there is no such extent"));
        }
        Ok(Range {
            segment: extent.address.segment(),
            start: offset / self.sector_bytes,
            sectors: extent.length.div_ceil(self.sector_bytes),
        })
    }

    pub(super) fn address(&self, range: Range) -> Address {
        Address::new(range.segment, range.start * self.sector_bytes)
    }

    /// The whole sectors of a range, as an extent.
    pub(super) fn extent(&self, range: Range) -> Extent {
        Extent::new(self.address(range), range.sectors * self.sector_bytes)
    }

    pub(super) fn bytes(&self, sectors: u64) -> u64 {
        sectors * u64::from(self.sector_bytes)
    }
}
