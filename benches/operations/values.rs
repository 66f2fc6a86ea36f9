//! Values that are too large for a leaf: whole, in part, and as streams.

use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use thunderhead::{Durability, Options};

use crate::data::in_file;

const VALUE_BYTES: usize = 4 << 20;
const PART_BYTES: usize = 4 << 10;

/// Writing one of 4 MiB, reading it whole, reading 4 KiB of it.
pub fn off_tree(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("off-tree-4MiB");
    group.sample_size(20);
    let value = vec![7; VALUE_BYTES];
    let (_directory, store) = in_file(&Options::new());
    group.throughput(Throughput::Bytes(VALUE_BYTES as u64));
    for (name, durability) in [
        ("write/immediate", Durability::Immediate),
        ("write/buffered", Durability::Buffered),
    ] {
        let store = store.with_durability(durability);
        group.bench_function(name, |bencher| {
            bencher.iter(|| store.put("large", &value).wait().expect("room on the disk"));
        });
    }
    store.put("large", &value).wait().expect("room on the disk");
    group.bench_function("read", |bencher| {
        bencher.iter(|| store.get("large").wait().expect("a whole file"));
    });
    group.throughput(Throughput::Bytes(PART_BYTES as u64));
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("part-4KiB", |bencher| {
        bencher.iter_batched(
            || random.u64(..(VALUE_BYTES - PART_BYTES) as u64),
            |offset| store.get_part("large", offset, PART_BYTES).wait(),
            BatchSize::SmallInput,
        );
    });
}

const STREAM_BYTES: usize = 16 << 20;
const PIECE_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// Streaming one of 16 MiB in and out, in pieces and through a buffer, without waiting for the disk.
pub fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream-16MiB");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(STREAM_BYTES as u64));
    let piece = Bytes::from(vec![7; PIECE_BYTES]);
    let (_directory, store) = in_file(&Options::new().durability(Durability::Buffered));
    let write = || {
        let mut writer = store.value_writer("film").expect("an open store");
        for _ in 0..STREAM_BYTES / PIECE_BYTES {
            writer.write_bytes(piece.clone()).wait().expect("room");
        }
        writer.finish().wait().expect("room");
    };
    let reader = || {
        let reader = store.value_reader("film").wait();
        reader.expect("a whole file").expect("it was written")
    };
    group.bench_function("write/pieces", |bencher| bencher.iter(write));
    group.bench_function("write/buffer", |bencher| {
        bencher.iter(|| {
            let mut writer = store.value_writer("film").expect("an open store");
            for part in piece
                .chunks(BUFFER_BYTES)
                .cycle()
                .take(STREAM_BYTES / BUFFER_BYTES)
            {
                writer.write_all(part).expect("room");
            }
            writer.finish().wait().expect("room");
        });
    });
    write();
    group.bench_function("read/pieces", |bencher| {
        bencher.iter(|| {
            let pieces = reader().chunks();
            pieces
                .map(|piece| piece.expect("a whole file").len())
                .sum::<usize>()
        });
    });
    group.bench_function("read/buffer", |bencher| {
        let mut buffer = vec![0; BUFFER_BYTES];
        bencher.iter(|| {
            let mut reader = reader();
            while reader.read(&mut buffer).expect("a whole file") > 0 {
                black_box(&buffer);
            }
        });
    });
    group.throughput(Throughput::Bytes(PART_BYTES as u64));
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("read/seek-4KiB", |bencher| {
        let (mut reader, mut part) = (reader(), [0; PART_BYTES]);
        bencher.iter(|| {
            let place = random.u64(..(STREAM_BYTES - PART_BYTES) as u64);
            reader.seek(SeekFrom::Start(place)).expect("a place in it");
            reader.read_exact(&mut part).expect("a whole file");
        });
    });
    group.finish();
}

/// Changing 4 KiB of one of 16 MiB, without waiting for the disk.
pub fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part-4KiB-of-16MiB");
    group.sample_size(20);
    let (_directory, store) = in_file(&Options::new().durability(Durability::Buffered));
    let part = [8; PART_BYTES];
    let last = (STREAM_BYTES - PART_BYTES) as u64;
    let put = store.put("film", vec![7; STREAM_BYTES]);
    put.wait().expect("room on the disk");
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("write_at", |bencher| {
        bencher.iter(|| store.write_at("film", random.u64(..last), &part).wait());
    });
    group.bench_function("truncate-and-append_to", |bencher| {
        bencher.iter(|| {
            store.truncate("film", last).wait().expect("room");
            store.append_to("film", &part).wait().expect("room")
        });
    });
    group.finish();
}

/// The same bytes compressed: text of which half is left.
#[cfg(any(feature = "lz4", feature = "zstd"))]
pub fn compressed(criterion: &mut Criterion) {
    use thunderhead::Compression;

    let mut group = criterion.benchmark_group("compressed-4MiB");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(VALUE_BYTES as u64));
    let mut random = fastrand::Rng::with_seed(1);
    let value: Vec<u8> = (0..VALUE_BYTES).map(|_| b'a' + random.u8(..16)).collect();
    let codecs = [
        #[cfg(feature = "lz4")]
        ("lz4", Compression::Lz4),
        #[cfg(feature = "zstd")]
        ("zstd-3", Compression::Zstd { level: 3 }),
    ];
    for (name, compression) in codecs {
        let options = Options::new().durability(Durability::Buffered);
        let (_directory, store) = in_file(&options.compression(compression));
        group.bench_function(format!("write/{name}"), |bencher| {
            bencher.iter(|| store.put("text", &value).wait().expect("room"));
        });
        store.put("text", &value).wait().expect("room");
        group.bench_function(format!("read/{name}"), |bencher| {
            bencher.iter(|| store.get("text").wait().expect("a whole file"));
        });
    }
    group.finish();
}

#[cfg(not(any(feature = "lz4", feature = "zstd")))]
pub fn compressed(_: &mut Criterion) {}
