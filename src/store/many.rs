//! Reading many keys at once, so that waits for the disk overlap.

use futures::TryStreamExt;
use futures::stream::FuturesOrdered;

use super::reader::Reader;
use super::value::Value;
use crate::disk::overlapping;
use crate::error::Result;

impl Reader {
    /// The values of some keys, in their order, all of one version.
    pub(super) async fn get_many<K: AsRef<[u8]> + Sync>(
        &self,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        let held = self.held();
        let at_once = held.core.pages.disk.properties().concurrency.max(1);
        let mut found = Vec::with_capacity(keys.len());
        let all = async {
            let mut under_way = FuturesOrdered::new();
            for key in keys {
                if under_way.len() == at_once {
                    found.extend(under_way.try_next().await?);
                }
                under_way.push_back(held.get_with(key.as_ref(), Value::copied));
            }
            while let Some(value) = under_way.try_next().await? {
                found.push(value);
            }
            Ok(())
        };
        overlapping(all).await?;
        Ok(found)
    }
}
