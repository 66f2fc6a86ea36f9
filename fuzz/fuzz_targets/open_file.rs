//! Bytes as a file: opening is refused with an error, or everything is read without a panic. Begin
//! with `tests/golden/` as the corpus. Checksums of the header and of the root are mended.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thunderhead::{Maintenance, Options};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for at in [0, 4096, 8192, 12288] {
        if let Some(record) = bytes.get_mut(at..at + 512) {
            let checksum = crc32fast::hash(&record[..508]);
            record[508..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &bytes).expect("room for it");
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .reserve_bytes(0)
        .cache_bytes(1 << 20);
    for options in [options.clone().read_only(), options] {
        let Ok(store) = options.open(file.path()) else {
            continue;
        };
        // A hostile tree may name one page from many places: not all of it is read.
        let _ = store.iter().take(1000).take_while(Result::is_ok).count();
        let _ = store
            .iter()
            .rev()
            .take(1000)
            .take_while(Result::is_ok)
            .count();
        let _ = store.len().wait();
        let _ = store.nth(3).wait();
        let _ = store.get("off-tree").wait();
        let _ = store.put("key", "value").wait();
        let _ = store.maintain().wait();
        let _ = store.close().wait();
    }
});
