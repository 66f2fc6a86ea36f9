//! A limit on the memory of a process and its children: a memory control group, of version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engines::Result;

const ROOT: &str = "/sys/fs/cgroup";

/// A group that is removed when it is dropped.
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group with a limit. Page cache counts too, so what is read again comes from the disk
    /// once it exceeds the limit.
    pub fn new(limit_bytes: u64) -> Result<Self> {
        let name = format!("thunderhead-peers-{}", std::process::id());
        let limit = limit_bytes.to_string();
        let first = Path::new(ROOT).join("memory");
        if first.join("memory.limit_in_bytes").exists() {
            let group = Self::make(first.join(own(Some("memory"))).join(name))?;
            group.set("memory.limit_in_bytes", &limit)?;
            group.check("memory.limit_in_bytes", limit_bytes)?;
            return Ok(group);
        }
        // A group with processes in it cannot hand controllers on, so it is made beside this one.
        let own = Path::new(ROOT).join(own(None));
        let parent = own.parent().filter(|parent| parent.starts_with(ROOT));
        let parent = parent.unwrap_or(Path::new(ROOT));
        let controllers = parent.join("cgroup.subtree_control");
        let _ = fs::write(&controllers, "+memory");
        let group = Self::make(parent.join(name))?;
        group.set("memory.max", &limit)?;
        // Where there is no swap there is no such file.
        let _ = group.set("memory.swap.max", "0");
        group.check("memory.max", limit_bytes)?;
        Ok(group)
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).map_err(|error| {
            format!(
                "no memory control group can be made at {}: {error}. It takes the right to do so \
                 (root, or a delegated group)",
                path.display()
            )
        })?;
        Ok(Self { path })
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// That the limit is there, up to whole pages.
    fn check(&self, file: &str, limit: u64) -> Result<()> {
        let path = self.path.join(file);
        let read: u64 = fs::read_to_string(&path)?
            .trim()
            .parse()
            .unwrap_or(u64::MAX);
        match read.abs_diff(limit) <= 64 << 10 {
            true => Ok(()),
            false => Err(format!("{}: {read} instead of {limit}", path.display()).into()),
        }
    }

    /// The file to which a process that joins writes its number.
    pub fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel lets go of the last process a moment after its end.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// The group of this process, as a path below the root of a hierarchy.
fn own(controller: Option<&str>) -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let right = match controller {
            Some(wanted) => controllers.split(',').any(|name| name == wanted),
            None => controllers.is_empty(),
        };
        right.then(|| path.trim_start_matches('/').to_owned())
    });
    let path = PathBuf::from(path.unwrap_or_default());
    // In a container the hierarchy may begin at this process's own group.
    match Path::new(ROOT)
        .join(controller.unwrap_or(""))
        .join(&path)
        .is_dir()
    {
        true => path,
        false => PathBuf::new(),
    }
}

/// Puts this process into a group.
pub fn join(members: &Path) -> Result<()> {
    fs::write(members, std::process::id().to_string())
        .map_err(|error| format!("joining {}: {error}", members.display()).into())
}
