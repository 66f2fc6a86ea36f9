//! What a value consists of: for freeing it, for recovery, and for checking all of it.
//!
//! [`expand`] takes one step, so that a terabyte can be freed a page at a time: its parts are
//! values themselves and can wait in a list as payloads. [`ValueReader::verify`] reads everything.
//! All of it ends on any input: levels only decrease, and every entry has a block.

use crate::error::{Error, Result};
use crate::format::{Birth, Extent};

use super::difference::{Unshared, each_unshared};
use super::index::IndexPage;
use super::payload::OffTree;
use super::reader::ValueReader;
use super::source::PageSource;

/// What a value consists of, as far as one page tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Children {
    /// Extents that belong to the value itself: its root, and the data next to it.
    pub(crate) extents: Vec<(Extent, Birth)>,
    /// Parts of it that have roots of their own: expand each.
    pub(crate) values: Vec<OffTree>,
}

/// The extents and parts of a value, in the order of its bytes. Loads at most one page; gives at
/// most as many children as fit one.
pub(crate) async fn expand(value: &OffTree, pages: &impl PageSource) -> Result<Children> {
    let mut children = Children::default();
    if value.length == 0 {
        return Ok(children);
    }
    children.extents.push((value.root.extent, value.root.birth));
    if value.depth == 0 {
        return Ok(children);
    }
    let page = pages.load(value.root, value.depth).await?;
    let index = IndexPage::new(page.as_ref(), value)?;
    for entry in 0..index.entries() {
        if value.depth == 1 {
            let data = index.data(entry)?;
            children.extents.push((data.extent, data.birth));
        } else {
            children.values.push(index.child(entry)?.1);
        }
    }
    Ok(children)
}

/// Visits every extent of a value, without reading its data.
pub(crate) async fn each_extent(
    value: &OffTree,
    pages: &impl PageSource,
    mut visit: impl FnMut(Extent, Birth) -> Result<()> + Send,
) -> Result<()> {
    let mut parts = vec![*value];
    while let Some(part) = parts.pop() {
        let children = expand(&part, pages).await?;
        for (extent, birth) in children.extents {
            visit(extent, birth)?;
        }
        parts.extend(children.values.into_iter().rev());
    }
    Ok(())
}

/// Visits every extent of the value of a payload that is its own: all but those of its base.
pub(crate) async fn each_own_extent(
    payload: &[u8],
    pages: &impl PageSource,
    mut visit: impl FnMut(Extent, Birth) -> Result<()> + Send,
) -> Result<OffTree> {
    let (value, base) = OffTree::with_base(payload)?;
    let Some(base) = base else {
        each_extent(&value, pages, visit).await?;
        return Ok(value);
    };
    let mut whole = Vec::new();
    each_unshared(&value, &[base], pages, |part| match part {
        Unshared::Page(extent, birth) | Unshared::Blocks(extent, birth, _) => visit(extent, birth),
        Unshared::Whole(value) => {
            whole.push(value);
            Ok(())
        }
    })
    .await?;
    for part in whole {
        each_extent(&part, pages, &mut visit).await?;
    }
    Ok(value)
}

impl<P: PageSource> ValueReader<P> {
    /// Reads and checks what the value of a payload has of its own: all but what it has from its
    /// base. `visit` sees the extents.
    pub(crate) async fn verify_own(
        &self,
        payload: &[u8],
        mut visit: impl FnMut(Extent, Birth) -> Result<()> + Send,
    ) -> Result<()> {
        let (value, Some(base)) = OffTree::with_base(payload)? else {
            return self.verify(visit).await;
        };
        let mut parts = Vec::new();
        each_unshared(&value, &[base], self.pages(), |part| {
            parts.push(part);
            Ok(())
        })
        .await?;
        for part in parts {
            match part {
                Unshared::Page(extent, birth) => visit(extent, birth)?,
                Unshared::Blocks(extent, birth, blocks) => {
                    visit(extent, birth)?;
                    self.check_data(extent, birth, &blocks).await?;
                }
                Unshared::Whole(part) => self.verify_part(part, &mut visit).await?,
            }
        }
        Ok(())
    }

    /// Reads the whole value in steps of at most 1 MiB and checks every checksum, every entry and
    /// every sum. `visit` sees the extents as they are found, index pages before what they name.
    pub(crate) async fn verify(
        &self,
        visit: impl FnMut(Extent, Birth) -> Result<()> + Send,
    ) -> Result<()> {
        self.verify_part(*self.value(), visit).await
    }

    async fn verify_part(
        &self,
        part: OffTree,
        mut visit: impl FnMut(Extent, Birth) -> Result<()> + Send,
    ) -> Result<()> {
        let sector = self.sector_bytes();
        let on_disk = |extent: Extent| u64::from(extent.length).next_multiple_of(u64::from(sector));
        let mut parts = vec![part];
        while let Some(part) = parts.pop() {
            let root = part.root;
            let mut found = Some(on_disk(root.extent));
            if part.length > 0 {
                visit(root.extent, root.birth)?;
            }
            if part.depth == 0 {
                if part.length > 0 {
                    self.check_data(root.extent, root.birth, &[part.root_block()])
                        .await?;
                }
            } else {
                let page = self.pages().load(root, part.depth).await?;
                let entries = IndexPage::new(page.as_ref(), &part)?.entries();
                let mut children = Vec::new();
                for entry in 0..entries {
                    let below = if part.depth == 1 {
                        let (data, blocks) = {
                            let index = IndexPage::new(page.as_ref(), &part)?;
                            let data = index.data(entry)?;
                            (data, index.part(&data, data.first, data.blocks)?.1)
                        };
                        visit(data.extent, data.birth)?;
                        self.check_data(data.extent, data.birth, &blocks).await?;
                        on_disk(data.extent)
                    } else {
                        let (_, child) = IndexPage::new(page.as_ref(), &part)?.child(entry)?;
                        children.push(child);
                        child.disk_bytes
                    };
                    found = found.and_then(|sum| sum.checked_add(below));
                }
                parts.extend(children.into_iter().rev());
            }
            if found != Some(part.disk_bytes) {
                return Err(Error::corrupt_at(
                    root.extent,
                    "an off-tree value does not take as many bytes on the disk as it says",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::DiskPages;
    use super::super::testing::{BIRTH, STORE, TestDisk, content};
    use super::*;
    use crate::disk::block_on;

    #[test]
    fn expanding_step_by_step_finds_every_extent_once() {
        for (fan_out, length) in [(2, 0), (2, 1), (2, 512), (2, 513), (2, 30_000), (7, 30_000)] {
            let disk = TestDisk::new();
            let written = disk.write(fan_out, &content(1, length));
            let pages = DiskPages::new(disk.disk(), STORE);
            let mut expected = written.extents.clone();
            expected.sort();

            let mut found = Vec::new();
            let mut waiting = vec![written.value.to_payload()];
            while let Some(payload) = waiting.pop() {
                let value = OffTree::from_payload(&payload).unwrap();
                let children = block_on(expand(&value, &pages)).unwrap();
                assert!(children.extents.len() + children.values.len() <= fan_out as usize + 1);
                found.extend(children.extents);
                waiting.extend(children.values.iter().map(|value| value.to_payload()));
            }
            assert!(found.iter().all(|(_, birth)| *birth == BIRTH));
            let mut extents: Vec<_> = found.into_iter().map(|(extent, _)| extent).collect();
            extents.sort();
            assert_eq!(extents, expected);

            let mut visited = Vec::new();
            block_on(each_extent(&written.value, &pages, |extent, _| {
                visited.push(extent);
                Ok(())
            }))
            .unwrap();
            let mut verified = Vec::new();
            block_on(disk.reader(written.value).verify(|extent, _| {
                verified.push(extent);
                Ok(())
            }))
            .unwrap();
            let sum: u64 = verified
                .iter()
                .map(|extent| u64::from(extent.whole_sectors(512).length))
                .sum();
            assert_eq!(sum, written.value.disk_bytes);
            visited.sort();
            verified.sort();
            assert_eq!((&visited, &verified), (&expected, &expected));
        }
    }

    #[test]
    fn a_wrong_number_of_bytes_on_disk_is_found() {
        let disk = TestDisk::new();
        for length in [0, 300, 5000] {
            let mut value = disk.write(2, &content(1, length)).value;
            value.disk_bytes += 512;
            assert!(block_on(disk.reader(value).verify(|_, _| Ok(()))).is_err());
        }
    }
}
