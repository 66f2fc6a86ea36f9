//! What a piece of work took: time, processor time, bytes written, memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What was used up so far by this process.
#[derive(Clone, Copy)]
pub struct Used {
    pub at: Instant,
    pub cpu_seconds: f64,
    pub written_bytes: u64,
}

impl Used {
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            cpu_seconds: cpu_seconds(),
            written_bytes: written_bytes(),
        }
    }
}

/// User and system time of all threads of this process.
pub fn cpu_seconds() -> f64 {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Bytes that this process caused to be written to a disk. The kernel counts them when a page of its
/// cache becomes dirty, so nothing has to be synced for it to count.
fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:").unwrap_or(0)
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The highest amount of memory that was resident since the last [`forget_peak`].
pub fn peak_bytes() -> u64 {
    field("/proc/self/status", "VmHWM:").unwrap_or(0) * 1024
}

pub fn forget_peak() {
    // Without the right to do so, peaks are those of the whole process so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Watches the memory that belongs to no file: what is left when mapped pages do not count.
pub struct Watch {
    peak: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    const EVERY: Duration = Duration::from_millis(20);

    pub fn start() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (peak, ended) = (Arc::clone(&peak), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let bytes = field("/proc/self/status", "RssAnon:").unwrap_or(0) * 1024;
                    peak.fetch_max(bytes, Ordering::Relaxed);
                    std::thread::park_timeout(Self::EVERY);
                }
            }
        });
        Self {
            peak,
            ended,
            thread: Some(thread),
        }
    }

    /// The peak since the last call.
    pub fn take(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Waits until this process does nothing any more: what a phase left to the background is charged to
/// it and not to the next one. Gives up after half a minute.
pub fn settle() {
    const STEP: Duration = Duration::from_millis(50);
    let begin = Instant::now();
    let mut quiet = 0;
    while quiet < 3 && begin.elapsed() < Duration::from_secs(30) {
        let before = cpu_seconds();
        std::thread::sleep(STEP);
        let busy = cpu_seconds() - before > STEP.as_secs_f64() * 0.06;
        quiet = if busy { 0 } else { quiet + 1 };
    }
}

/// How much room the files of a directory take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// The sum of the lengths of the files.
    pub length: u64,
    /// What the file system keeps for them: less where there are holes.
    pub blocks: u64,
}

pub fn size(directory: &Path) -> Size {
    let mut size = Size::default();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        // A background thread may delete what was just listed.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            let inner = self::size(&path);
            size.length += inner.length;
            size.blocks += inner.blocks;
        } else {
            size.length += metadata.len();
            size.blocks += metadata.blocks() * 512;
        }
    }
    size
}
