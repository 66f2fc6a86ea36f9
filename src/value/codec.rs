//! Compression of blocks: each by itself, so that one can be read or replaced alone.
//!
//! A block is kept compressed only where that saves an eighth of its sectors; in a value with a codec,
//! a block that is as long on the disk as in the value is not. Decompression knows how long the result
//! must be and takes no more memory, whatever the bytes say.

use crate::error::{Error, Result};

/// How values that are written are compressed, block by block. Values are read whatever this is set
/// to, as long as the feature of their codec is on.
///
/// Only values out of the tree are compressed, and of these the blocks (32 KiB by default) for which
/// it saves an eighth.
///
/// ```
/// use thunderhead::{Compression, Options, disk::MemoryDisk};
///
/// let options = Options::new();
/// # #[cfg(feature = "lz4")]
/// let options = options.compression(Compression::Lz4);
/// let store = options.open_disk(MemoryDisk::new())?;
/// store.put("large", vec![7; 1 << 20]).wait()?;
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By LZ4: fast. Feature `lz4`.
    #[cfg(feature = "lz4")]
    Lz4,
    /// By Zstandard: smaller, slower. Feature `zstd`.
    #[cfg(feature = "zstd")]
    Zstd {
        /// From 1, fast, to 22, small; 3 is usual. Others are taken as the nearest that there is.
        level: i32,
    },
}

/// How the blocks of a value are compressed, as the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Codec {
    /// The blocks hold the value as it is.
    #[default]
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| *codec as u8 == byte)
    }

    /// Appends the `length` bytes that a block stands for.
    pub(super) fn decompress(self, stored: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        let from = out.len();
        // Without the features, nothing else says which error it has.
        let result: Result<usize, ()> = match self {
            Self::None => {
                out.extend_from_slice(stored);
                Ok(stored.len())
            }
            #[cfg(feature = "lz4")]
            Self::Lz4 => {
                out.resize(from + length, 0);
                lz4_flex::block::decompress_into(stored, &mut out[from..]).map_err(drop)
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                out.resize(from + length, 0);
                zstd::bulk::decompress_to_buffer(stored, &mut out[from..]).map_err(drop)
            }
            #[cfg(not(feature = "lz4"))]
            Self::Lz4 => return Err(missing("lz4")),
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => return Err(missing("zstd")),
        };
        match result {
            Ok(found) if found == length => Ok(()),
            _ => Err(Error::corrupt(
                "a compressed block of an off-tree value does not decompress",
            )),
        }
    }
}

#[cfg(not(all(feature = "lz4", feature = "zstd")))]
fn missing(feature: &str) -> Error {
    Error::new(
        crate::error::ErrorKind::CodecMissing,
        format!("reading a compressed value: this build lacks the feature `{feature}`"),
    )
}

impl Compression {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            #[cfg(feature = "lz4")]
            Self::Lz4 => Codec::Lz4,
            #[cfg(feature = "zstd")]
            Self::Zstd { .. } => Codec::Zstd,
        }
    }

    /// Compression of blocks of a value that has a codec already; none where it is not known.
    pub(super) fn of(self, codec: Codec) -> Self {
        if self.codec() == codec {
            return self;
        }
        match codec {
            #[cfg(feature = "lz4")]
            Codec::Lz4 => Self::Lz4,
            #[cfg(feature = "zstd")]
            Codec::Zstd => Self::Zstd { level: 3 },
            _ => Self::None,
        }
    }
}

/// Compresses one block after the other.
pub(super) enum Encoder {
    None,
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Self::Lz4,
            #[cfg(feature = "zstd")]
            Compression::Zstd { level } => {
                let range = zstd::compression_level_range();
                let level = level.clamp(*range.start(), *range.end());
                zstd::bulk::Compressor::new(level).map_or(Self::None, Self::Zstd)
            }
        }
    }

    /// The block compressed, if that saves an eighth of what it takes in whole sectors.
    pub(super) fn compress(&mut self, block: &[u8], sector_bytes: u32) -> Option<Vec<u8>> {
        let compressed: Option<Vec<u8>> = match self {
            Self::None => None,
            #[cfg(feature = "lz4")]
            Self::Lz4 => Some(lz4_flex::block::compress(block)),
            #[cfg(feature = "zstd")]
            Self::Zstd(compressor) => compressor.compress(block).ok(),
        };
        let sectors = |bytes: usize| bytes.next_multiple_of(sector_bytes as usize);
        compressed.filter(|bytes| {
            bytes.len() < block.len() && sectors(bytes.len()) * 8 <= sectors(block.len()) * 7
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::splice::Splice;
    use super::super::testing::{BIRTH, SEGMENT_BYTES, STORE, TestDisk, content};
    use super::super::{ExtentPointer, OffTree, Shape};
    use super::*;
    use crate::disk::block_on;
    use crate::error::ErrorKind;
    use crate::format::page_checksum;

    fn compressions() -> Vec<Compression> {
        vec![
            #[cfg(feature = "lz4")]
            Compression::Lz4,
            #[cfg(feature = "zstd")]
            Compression::Zstd { level: 1 },
            #[cfg(feature = "zstd")]
            Compression::Zstd { level: 1000 },
        ]
    }

    fn shape(compression: Compression) -> Shape {
        Shape::with_fan_out(2048, SEGMENT_BYTES, 4)
            .unwrap()
            .compressed(compression)
    }

    /// Some of it compresses, some does not.
    fn mixed(seed: u64, length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut out = content(seed, length);
        let mut at = 0;
        while at < length {
            let end = (at + random.usize(1..9000)).min(length);
            if random.bool() {
                out[at..end].fill(random.u8(..));
            }
            at = end;
        }
        out
    }

    fn write(disk: &TestDisk, compression: Compression, bytes: &[u8]) -> OffTree {
        let mut writer = disk.writer_of(shape(compression));
        block_on(async {
            writer.write(bytes).await?;
            writer.finish().await
        })
        .unwrap()
        .value
    }

    #[test]
    fn compressed_values_take_less_and_read_in_whole_and_in_parts() {
        for compression in compressions() {
            for seed in 0..40 {
                let mut random = fastrand::Rng::with_seed(seed);
                let disk = TestDisk::new();
                disk.state().largest = [700, 5000, u32::MAX][random.usize(..3)];
                let bytes = mixed(seed, random.usize(1..60_000));
                if disk.state().largest == 700 {
                    // Too little for a block that does not compress.
                    continue;
                }
                let value = write(&disk, compression, &bytes);
                let reader = disk.reader(value);
                assert!(block_on(reader.read_all(usize::MAX)).unwrap() == bytes);
                block_on(reader.verify(|_, _| Ok(()))).unwrap();
                for _ in 0..20 {
                    let from = random.usize(..=bytes.len());
                    let length = random.usize(..5000);
                    let end = (from + length).min(bytes.len());
                    let read = block_on(reader.read(from as u64, length)).unwrap();
                    assert!(read == bytes[from..end], "seed {seed}");
                }
            }
            let disk = TestDisk::new();
            let same = write(&disk, compression, &[7; 60_000]);
            // A sector for each block, and one for each index page.
            assert_eq!(same.disk_bytes, 512 * (30 + 8 + 2 + 1));
            let small = write(&disk, compression, &[7; 1500]);
            assert_eq!((small.depth, small.disk_bytes), (0, 512));
            assert_eq!(small.codec, compression.codec());
            let random = write(&disk, compression, &content(3, 1500));
            assert_eq!(
                (random.codec, random.root.extent.length),
                (Codec::None, 1500)
            );
        }
    }

    #[test]
    fn parts_of_compressed_values_are_changed_alone() {
        for compression in compressions() {
            for seed in 0..30 {
                let mut random = fastrand::Rng::with_seed(seed);
                let disk = TestDisk::new();
                let mut bytes = mixed(seed, random.usize(9000..60_000));
                let mut value = write(&disk, compression, &bytes);
                for step in 0..8 {
                    let new = mixed(step, random.usize(1..3000));
                    let keep = random.usize(..=bytes.len());
                    let resume = match random.u8(..3) {
                        0 => bytes.len(),
                        _ => (keep + new.len()).min(bytes.len()),
                    };
                    let splice = Splice {
                        keep: keep as u64,
                        zeros: 0,
                        bytes: &new,
                        resume: resume as u64,
                    };
                    bytes.splice(keep..resume, new.iter().copied());
                    let other = [Compression::None, compression][random.usize(..2)];
                    let shape = shape(other).with_codec(value.codec, other);
                    let mut writer = disk.writer_of(shape);
                    let before = value;
                    value = block_on(async {
                        writer.splice(&disk.reader(value), &splice, true).await?;
                        writer.finish().await
                    })
                    .unwrap()
                    .value;
                    let reader = disk.reader(value);
                    assert!(block_on(reader.read_all(usize::MAX)).unwrap() == bytes);
                    block_on(reader.verify(|_, _| Ok(()))).unwrap();
                    let own = value.to_payload_over(before);
                    block_on(reader.verify_own(&own, |_, _| Ok(()))).unwrap();
                    if value.depth == 0 {
                        break;
                    }
                }
            }
        }
    }

    /// Index pages and blocks that verify, with contents of an attacker's choice.
    #[test]
    fn hostile_compressed_values_give_errors_and_never_panic() {
        for compression in compressions() {
            let mut random = fastrand::Rng::with_seed(5);
            let disk = TestDisk::new();
            for round in 0..1500 {
                if round % 200 == 0 {
                    disk.state().allocated.clear();
                }
                let length = random.usize(1..9000);
                let mut forged = write(&disk, compression, &vec![round as u8; length]);
                let root = forged.root.extent;
                let mut page = Vec::new();
                disk.change(root, |bytes| {
                    for _ in 0..random.usize(1..4) {
                        let at = random.usize(..bytes.len());
                        bytes[at] = random.choice([0, 1, 255, at as u8]).unwrap();
                    }
                    page = bytes.to_vec();
                });
                forged.root = ExtentPointer {
                    extent: root,
                    checksum: page_checksum(STORE, root.address, BIRTH, &page),
                    birth: BIRTH,
                };
                let reader = disk.reader(forged);
                if let Ok(read) = block_on(reader.read_all(usize::MAX)) {
                    assert_eq!(read.len(), length);
                }
                let _ = block_on(reader.verify(|_, _| Ok(())));
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn a_codec_that_is_not_there_is_named_and_its_raw_blocks_can_be_read() {
        let disk = TestDisk::new();
        let mut value = write(&disk, Compression::None, &[7; 600]);
        value.codec = Codec::Zstd;
        assert_eq!(
            block_on(disk.reader(value).read_all(600)).unwrap(),
            [7; 600]
        );
        value.length = 700;
        block_on(disk.reader(value).verify(|_, _| Ok(()))).unwrap();
        let error = block_on(disk.reader(value).read_all(700)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CodecMissing);
        assert!(error.to_string().contains("`zstd`"), "{error}");
    }

    #[test]
    fn decompressing_gives_as_many_bytes_as_it_must_or_an_error() {
        for compression in compressions() {
            let codec = compression.codec();
            let block = vec![7; 3000];
            let stored = Encoder::new(compression).compress(&block, 512).unwrap();
            for length in [0, 2999, 3001, 1 << 20] {
                let error = codec.decompress(&stored, length, &mut Vec::new());
                assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
            }
            let mut out = b"before".to_vec();
            codec.decompress(&stored, 3000, &mut out).unwrap();
            assert!(out[6..] == block);
        }
    }
}
