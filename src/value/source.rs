//! [`PageSource`]: where index pages come from. The store puts its cache here.

use std::future::Future;

use crate::disk::Disk;
use crate::error::Result;
use crate::format::StoreId;

use super::payload::ExtentPointer;

/// Gives index pages that were verified against their pointers.
pub(crate) trait PageSource: Send + Sync {
    /// A page, kept alive while this is.
    type Page: AsRef<[u8]> + Send + Sync;

    /// The page that a pointer names. `level` is 1 for those next to the data. The caller has
    /// bounded the length; the source answers for length and checksum.
    fn load(
        &self,
        page: ExtentPointer,
        level: u8,
    ) -> impl Future<Output = Result<Self::Page>> + Send;
}

impl<S: PageSource> PageSource for &S {
    type Page = S::Page;

    fn load(
        &self,
        page: ExtentPointer,
        level: u8,
    ) -> impl Future<Output = Result<Self::Page>> + Send {
        (**self).load(page, level)
    }
}

/// Reads every page from the disk.
#[derive(Clone)]
pub(crate) struct DiskPages {
    disk: Disk,
    store: StoreId,
}

impl DiskPages {
    pub(crate) fn new(disk: Disk, store: StoreId) -> Self {
        Self { disk, store }
    }
}

impl PageSource for DiskPages {
    type Page = Vec<u8>;

    async fn load(&self, page: ExtentPointer, _level: u8) -> Result<Vec<u8>> {
        let bytes = self.disk.read(page.extent).await?;
        page.verify(self.store, &bytes)?;
        Ok(bytes)
    }
}
