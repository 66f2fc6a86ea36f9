//! What a value consists of and others do not: of values that share extents, what is freed with one.
//!
//! Values share only what stands at the same place of both. So a page is shared if the way down to
//! its first block leads to it in another value, too, and a block if it has the same address there.
//! Nothing is read below shared pages: the cost is that of the difference, not of the values.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Address, Birth, Extent};

use super::index::{IndexPage, StoredBlock};
use super::payload::{ExtentPointer, OffTree};
use super::source::PageSource;

/// How many pages are remembered on the way.
const REMEMBERED_PAGES: usize = 16;

/// Something that no other value has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unshared {
    /// An index page.
    Page(Extent, Birth),
    /// Some blocks of a data extent.
    Blocks(Extent, Birth, Vec<StoredBlock>),
    /// A page with all that is below it, at a place that no other value has.
    Whole(OffTree),
}

/// Pages of a source that were asked for lately.
struct Remembering<'s, S: PageSource> {
    source: &'s S,
    pages: Vec<(ExtentPointer, Arc<S::Page>)>,
}

impl<S: PageSource> Remembering<'_, S> {
    async fn load(&mut self, value: &OffTree) -> Result<Arc<S::Page>> {
        let known = |(pointer, _): &(ExtentPointer, _)| *pointer == value.root;
        if let Some(at) = self.pages.iter().position(known) {
            let found = self.pages.remove(at);
            let page = Arc::clone(&found.1);
            self.pages.push(found);
            return Ok(page);
        }
        let page = Arc::new(self.source.load(value.root, value.depth).await?);
        if self.pages.len() >= REMEMBERED_PAGES {
            self.pages.remove(0);
        }
        self.pages.push((value.root, Arc::clone(&page)));
        Ok(page)
    }

    /// Goes down in a value to the page of a level that a block is below: the part that it stands
    /// for, and its first block. `None` if the value has no such block or no such level.
    async fn part_at(
        &mut self,
        value: &OffTree,
        block: u64,
        depth: u8,
    ) -> Result<Option<(OffTree, u64)>> {
        if value.blocks() <= block || value.depth < depth {
            return Ok(None);
        }
        let (mut part, mut first) = (*value, 0);
        while part.depth > depth {
            let page = self.load(&part).await?;
            let index = IndexPage::new((*page).as_ref(), &part)?;
            let (below, child) = index.child(index.entry_of(block - first)?)?;
            first += below;
            part = child;
        }
        Ok(Some((part, first)))
    }

    /// Where a block of a value is, and whose birth it has.
    async fn block_at(&mut self, value: &OffTree, block: u64) -> Result<Option<(Address, Birth)>> {
        let Some((part, first)) = self.part_at(value, block, 1).await? else {
            return Ok(None);
        };
        let page = self.load(&part).await?;
        let index = IndexPage::new((*page).as_ref(), &part)?;
        let data = index.data(index.entry_of(block - first)?)?;
        let (extent, _) = index.part(&data, block - first, 1)?;
        Ok(Some((extent.address, data.birth)))
    }
}

/// Visits what a value consists of and no other one does, index pages before what they name.
pub(crate) async fn each_unshared(
    value: &OffTree,
    others: &[OffTree],
    pages: &impl PageSource,
    mut visit: impl FnMut(Unshared) -> Result<()> + Send,
) -> Result<()> {
    let mut pages = Remembering {
        source: pages,
        pages: Vec::new(),
    };
    // A hostile index could lead to one page from many places.
    let mut seen = HashSet::new();
    let mut parts = vec![(*value, 0)];
    while let Some((part, first)) = parts.pop() {
        let root = part.root;
        if part.length == 0 || others.iter().any(|other| other.root == root) {
            continue;
        }
        if part.depth == 0 {
            visit(Unshared::Blocks(
                root.extent,
                root.birth,
                vec![part.root_block()],
            ))?;
            continue;
        }
        if others.iter().all(|other| other.blocks() <= first) {
            visit(Unshared::Whole(part))?;
            continue;
        }
        let mut shared = false;
        for other in others {
            let there = pages.part_at(other, first, part.depth).await?;
            shared |= there.is_some_and(|(there, begins)| (there.root, begins) == (root, first));
        }
        if shared {
            continue;
        }
        if !seen.insert(root.extent.address) {
            return Err(Error::corrupt_at(
                root.extent,
                "an off-tree value has an index page in two places",
            ));
        }
        visit(Unshared::Page(root.extent, root.birth))?;
        let page = pages.load(&part).await?;
        let index = IndexPage::new((*page).as_ref(), &part)?;
        if part.depth > 1 {
            for entry in (0..index.entries()).rev() {
                let (below, child) = index.child(entry)?;
                parts.push((child, first + below));
            }
            continue;
        }
        for entry in 0..index.entries() {
            let data = index.data(entry)?;
            let end = data.first + data.blocks;
            let mut from = data.first;
            for block in data.first..=end {
                let address = index.part(&data, block.min(end - 1), 1)?.0.address;
                let mut shared = block == end;
                for other in others.iter().filter(|_| block < end) {
                    let there = pages.block_at(other, first + block).await?;
                    shared |= there == Some((address, data.birth));
                }
                if !shared {
                    continue;
                }
                if from < block {
                    let (extent, blocks) = index.part(&data, from, block - from)?;
                    visit(Unshared::Blocks(extent, data.birth, blocks))?;
                }
                from = block + 1;
            }
        }
    }
    Ok(())
}
