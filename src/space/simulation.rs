//! [`Space`] under a simulated store: random generations, versions, checkpoints and crashes.
//!
//! The oracle knows nothing of maps or rules. It remembers what was written to each sector last, and
//! expects every page that a version, a durable root or a root's list of pending items reaches to
//! be still there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::map::Map;
use super::*;
use crate::disk::Properties;
use crate::error::ErrorKind;
use crate::format::{Birth, Extent, PagePointer};

const SEGMENT_SECTORS: u32 = 128;
const SECTOR: u32 = 512;

/// A page, with the number of the write that filled it, and the pages below it.
#[derive(Clone, Debug)]
struct Node {
    extent: Extent,
    birth: u64,
    write: u64,
    children: Vec<Node>,
}

impl Node {
    fn each(&self, act: &mut impl FnMut(&Node)) {
        act(self);
        for child in &self.children {
            child.each(act);
        }
    }

    fn dropped(&self) -> Dropped {
        if self.children.is_empty() {
            return Dropped::Extent(self.extent);
        }
        Dropped::Subtree(PagePointer {
            address: self.extent.address,
            length: self.extent.length,
            birth: Birth(self.birth),
            bytes: self.extent.length.into(),
            ..PagePointer::NOTHING
        })
    }
}

fn sectors(extent: Extent) -> impl Iterator<Item = (u32, u32)> {
    let first = extent.address.offset() / SECTOR;
    let segment = extent.address.segment();
    (first..first + extent.length.div_ceil(SECTOR)).map(move |sector| (segment, sector))
}

#[derive(Clone)]
struct Root {
    birth: u64,
    live: Vec<Node>,
    tail_page: Option<Node>,
    pending: Vec<(Node, PendingItem)>,
    maps: BTreeMap<u32, Vec<u8>>,
    summary: BTreeMap<u32, Vec<u8>>,
    tail: Vec<u8>,
    segments: u64,
}

type Maps = Arc<Mutex<BTreeMap<u32, Vec<u8>>>>;

fn loader(maps: &Maps) -> Loader {
    let maps = maps.clone();
    Box::new(move |segment| Ok(maps.lock().unwrap().get(&segment).cloned()))
}

struct Store {
    seed: u64,
    random: fastrand::Rng,
    properties: Properties,
    space: Space,
    maps: Maps,
    summary: BTreeMap<u32, Vec<u8>>,
    written: HashMap<(u32, u32), u64>,
    writes: u64,
    /// The generation in which a sector was handed out last.
    handed_out: HashMap<(u32, u32), u64>,
    generation: u64,
    live: Vec<Node>,
    tail_page: Option<Node>,
    unattached: Vec<Node>,
    log: Vec<Extent>,
    dropped: HashMap<(u64, u64), Node>,
    versions: Vec<(u64, Vec<Node>)>,
    roots: Vec<Root>,
}

impl Store {
    fn new(seed: u64) -> Self {
        let mut properties = Properties::new(SEGMENT_SECTORS * SECTOR);
        properties.capacity_bytes = Some(10 * u64::from(SEGMENT_SECTORS * SECTOR) + 7 * 512);
        let maps = Maps::default();
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            space: Space::open(&properties, 0, loader(&maps)).unwrap(),
            properties,
            maps,
            summary: BTreeMap::new(),
            written: HashMap::new(),
            writes: 0,
            handed_out: HashMap::new(),
            generation: 0,
            live: Vec::new(),
            tail_page: None,
            unattached: Vec::new(),
            log: Vec::new(),
            dropped: HashMap::new(),
            versions: Vec::new(),
            roots: Vec::new(),
        }
    }

    fn allocate(&mut self, bytes: u32, owner: Owner) -> Option<Node> {
        let extent = match self.space.allocate(bytes, owner, Urgency::Ordinary) {
            Ok(extent) => extent,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "seed {}", self.seed);
                return None;
            }
        };
        assert_eq!(extent.length, bytes);
        self.writes += 1;
        for sector in sectors(extent) {
            self.written.insert(sector, self.writes);
            let before = self.handed_out.insert(sector, self.generation);
            assert_ne!(
                before,
                Some(self.generation),
                "seed {}: {extent} was handed out twice in one generation",
                self.seed
            );
        }
        Some(Node {
            extent,
            birth: self.generation,
            write: self.writes,
            children: Vec::new(),
        })
    }

    fn allocate_node(&mut self, depth: u32) -> Option<Node> {
        let bytes = self.random.u32(1..4000);
        let mut node = self.allocate(bytes, Owner::Tree)?;
        if depth > 0 {
            for _ in 0..self.random.u32(0..4) {
                node.children.extend(self.allocate_node(depth - 1));
            }
        }
        Some(node)
    }

    fn drop_node(&mut self, node: Node) {
        let (birth, now) = (Birth(node.birth), Birth(self.generation));
        self.space.drop_item(node.dropped(), birth, now).unwrap();
        let name = (node.extent.address.to_bits(), node.birth);
        self.dropped.insert(name, node);
    }

    fn begin_generation(&mut self) {
        self.generation += 1;
        self.space.set_current(Birth(self.generation));
    }

    fn change_live(&mut self) {
        match self.random.u8(0..6) {
            0..=2 => {
                let depth = self.random.u32(0..3);
                let node = self.allocate_node(depth);
                self.live.extend(node);
            }
            3 if !self.unattached.is_empty() => {
                let index = self.random.usize(..self.unattached.len());
                let node = self.unattached.swap_remove(index);
                self.space.attach(node.extent).unwrap();
                self.live.push(node);
            }
            _ if !self.live.is_empty() => {
                let index = self.random.usize(..self.live.len());
                let node = self.live.swap_remove(index);
                self.drop_node(node);
            }
            _ => {}
        }
    }

    fn use_other_extents(&mut self) {
        match self.random.u8(0..4) {
            0 | 1 => {
                let bytes = self.random.u32(1..9000);
                let node = self.allocate(bytes, Owner::Unattached);
                self.unattached.extend(node);
            }
            2 if !self.unattached.is_empty() => {
                let index = self.random.usize(..self.unattached.len());
                let node = self.unattached.swap_remove(index);
                self.space.abandon(node.extent).unwrap();
            }
            _ if self.log.len() < 2 => {
                let chunk = self.allocate(8192, Owner::Log);
                self.log.extend(chunk.map(|node| node.extent));
            }
            _ => {
                let chunk = self.log.swap_remove(0);
                self.space.abandon(chunk).unwrap();
            }
        }
    }

    fn collect(&mut self) {
        let collected = self.space.collect();
        for expansion in collected.expand {
            if self.random.u8(0..4) == 0 {
                self.space.expand_later(expansion);
                continue;
            }
            let Dropped::Subtree(pointer) = &expansion.pending.item else {
                unreachable!("only subtrees were dropped")
            };
            let name = (pointer.address.to_bits(), pointer.birth.0);
            let node = self.dropped.remove(&name).expect("expanded once");
            self.expect_intact(&node, "a subtree to be expanded");
            let mut parts = vec![(Dropped::Extent(node.extent), Birth(node.birth))];
            for child in node.children {
                parts.push((child.dropped(), Birth(child.birth)));
                let name = (child.extent.address.to_bits(), child.birth);
                self.dropped.insert(name, child);
            }
            self.space.expanded(expansion, parts).unwrap();
        }
    }

    fn checkpoint(&mut self) {
        let pending = self.space.pending_items();
        let pending = pending.into_iter().map(|item| {
            let Dropped::Subtree(pointer) = &item.item else {
                unreachable!("only subtrees were dropped")
            };
            let name = (pointer.address.to_bits(), pointer.birth.0);
            (self.dropped[&name].clone(), item)
        });
        let pending = pending.collect();
        self.space.begin_tail();
        let changed = self.space.changed_segments();
        self.begin_generation();
        // The tree that the maps are written to is made of pages without children, so that nothing
        // is pending that was not listed.
        for &segment in &changed {
            if let Some(node) = self.allocate_node(0) {
                self.live.push(node);
            }
            let leaf = self.live.iter().position(|node| node.children.is_empty());
            if let Some(index) = leaf
                && self.random.bool()
            {
                let node = self.live.swap_remove(index);
                self.drop_node(node);
            }
            if self.random.bool() {
                self.use_other_extents();
            }
            let bytes = self.space.encode_segment(segment).unwrap();
            let mut maps = self.maps.lock().unwrap();
            if bytes.is_empty() {
                maps.remove(&segment);
            } else {
                maps.insert(segment, bytes);
            }
        }
        let blocks: BTreeSet<u32> = changed.iter().map(|at| at / SUMMARY_SEGMENTS).collect();
        for block in blocks {
            let bytes = self.space.encode_summary(block);
            self.summary.insert(block, bytes);
        }
        if let Some(old) = self.tail_page.take() {
            self.drop_node(old);
        }
        let length = self.space.tail_bytes_max();
        let page = self.allocate(length as u32, Owner::Tree);
        let Some(page) = page else {
            // No room: the checkpoint fails, and its changes remain to be written.
            self.space.put_back_changed(&changed);
            return;
        };
        self.tail_page = Some(page);
        let tail = self.space.encode_tail(length).expect("it fits");
        self.roots.push(Root {
            birth: self.generation,
            live: self.live.clone(),
            tail_page: self.tail_page.clone(),
            pending,
            maps: self.maps.lock().unwrap().clone(),
            summary: self.summary.clone(),
            tail,
            segments: self.space.segments(),
        });
        self.space.keep_root(Birth(self.generation));
        if self.roots.len() > 2 {
            let old = self.roots.remove(0);
            self.space.release_root(Birth(old.birth));
        }
        if self.random.bool() {
            self.space.evict(self.random.usize(0..4));
        }
        if self.random.bool() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let releases = self.space.releasable().unwrap();
        let done = self.random.bool();
        self.use_other_extents();
        if done {
            for release in &releases {
                for sector in sectors(release.extent) {
                    self.written.remove(&sector);
                }
            }
        }
        self.space.released(&releases, done);
    }

    fn crash(&mut self) {
        let index = self.random.usize(..self.roots.len());
        let root = self.roots[index].clone();
        self.maps = Arc::new(Mutex::new(root.maps.clone()));
        self.space = Space::open(&self.properties, root.segments, loader(&self.maps)).unwrap();
        self.summary = root.summary.clone();
        for (block, bytes) in &root.summary {
            self.space.apply_summary(*block, bytes).unwrap();
        }
        self.space.apply_tail(&root.tail).unwrap();
        self.space.set_current(Birth(root.birth));
        self.space.keep_root(Birth(root.birth));
        self.space.keep_root(Birth(root.birth));

        self.dropped.clear();
        for (node, pending) in &root.pending {
            self.expect_intact_below(node);
            let PendingItem {
                item,
                birth,
                dropped_at,
                ..
            } = pending.clone();
            self.space.drop_item(item, birth, dropped_at).unwrap();
            let name = (node.extent.address.to_bits(), node.birth);
            self.dropped.insert(name, node.clone());
        }
        self.generation = root.birth;
        self.live = root.live.clone();
        self.tail_page = root.tail_page.clone();
        self.unattached.clear();
        self.versions.clear();
        self.handed_out.clear();
        for chunk in self.log.clone() {
            let chunk_is_lost = self.random.bool();
            if chunk_is_lost || self.space.mark_used(chunk, Owner::Log).is_err() {
                self.log.retain(|kept| *kept != chunk);
            }
        }
        self.roots = vec![root.clone(), root];
        if self.random.bool() {
            self.expect_durable_view();
        }
    }

    /// The maps show exactly what the trees and the pending items reach.
    fn expect_durable_view(&self) {
        let mut expected = BTreeSet::new();
        let mut add = |node: &Node| expected.extend(sectors(node.extent));
        for node in self.live.iter().chain(&self.tail_page) {
            node.each(&mut add);
        }
        for item in self.space.pending_items() {
            let Dropped::Subtree(pointer) = item.item else {
                unreachable!("only subtrees were dropped")
            };
            self.dropped[&(pointer.address.to_bits(), pointer.birth.0)].each(&mut add);
        }
        let mut found = BTreeSet::new();
        for segment in 0..self.space.segments() as u32 {
            let bytes = self.space.encode_segment(segment).unwrap();
            let map = Map::decode(&bytes, SEGMENT_SECTORS).unwrap();
            let in_use = (0..SEGMENT_SECTORS).filter(|&sector| map.used.all(sector, 1));
            found.extend(in_use.map(|sector| (segment, sector)));
        }
        assert_eq!(found, expected, "seed {}", self.seed);
        let statistics = self.space.statistics();
        let bytes = expected.len() as u64 * u64::from(SECTOR);
        assert_eq!(statistics.tree_bytes, bytes, "seed {}", self.seed);
    }

    fn expect_intact(&self, node: &Node, what: &str) {
        for sector in sectors(node.extent) {
            assert_eq!(
                self.written.get(&sector),
                Some(&node.write),
                "seed {}: {what} was overwritten at {}",
                self.seed,
                node.extent
            );
        }
    }

    /// Pages with children are read when a pending item is expanded. Others are only freed.
    fn expect_intact_below(&self, node: &Node) {
        node.each(&mut |node| {
            if !node.children.is_empty() {
                self.expect_intact(node, "an item that a root lists");
            }
        });
    }

    fn expect_everything_intact(&self) {
        for node in self.unattached.iter().chain(&self.live) {
            node.each(&mut |node| self.expect_intact(node, "the newest version"));
        }
        for (_, live) in &self.versions {
            for node in live {
                node.each(&mut |node| self.expect_intact(node, "a kept version"));
            }
        }
        for root in &self.roots {
            for node in root.live.iter().chain(&root.tail_page) {
                node.each(&mut |node| self.expect_intact(node, "a durable root"));
            }
            for (node, _) in &root.pending {
                self.expect_intact_below(node);
            }
        }
    }

    fn step(&mut self) {
        match self.random.u8(0..24) {
            0..=7 => {
                self.begin_generation();
                for _ in 0..self.random.u32(0..6) {
                    self.change_live();
                }
            }
            8..=10 => {
                let version = (self.generation, self.live.clone());
                self.space.keep(Birth(self.generation));
                self.versions.push(version);
            }
            11..=13 if !self.versions.is_empty() => {
                let index = self.random.usize(..self.versions.len());
                let (at, _) = self.versions.swap_remove(index);
                self.space.release(Birth(at));
            }
            14..=17 => self.collect(),
            18..=20 => self.checkpoint(),
            21 if !self.roots.is_empty() => self.crash(),
            _ => self.use_other_extents(),
        }
    }

    fn run(mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
            self.expect_everything_intact();
        }
        self.expect_durable_view();
        self.expect_that_all_space_comes_back();
    }

    fn expect_that_all_space_comes_back(&mut self) {
        for (at, _) in std::mem::take(&mut self.versions) {
            self.space.release(Birth(at));
        }
        for node in std::mem::take(&mut self.unattached) {
            self.space.abandon(node.extent).unwrap();
        }
        for chunk in std::mem::take(&mut self.log) {
            self.space.abandon(chunk).unwrap();
        }
        self.begin_generation();
        for node in std::mem::take(&mut self.live) {
            self.drop_node(node);
        }
        if let Some(node) = self.tail_page.take() {
            self.drop_node(node);
        }
        for _ in 0..4 {
            self.begin_generation();
            self.space.pending_items();
            self.space.keep_root(Birth(self.generation));
            self.roots.push(Root {
                birth: self.generation,
                live: Vec::new(),
                tail_page: None,
                pending: Vec::new(),
                maps: BTreeMap::new(),
                summary: BTreeMap::new(),
                tail: Vec::new(),
                segments: 0,
            });
            if self.roots.len() > 2 {
                let old = self.roots.remove(0);
                self.space.release_root(Birth(old.birth));
            }
            for _ in 0..40 {
                self.collect();
            }
        }
        self.begin_generation();
        let statistics = self.space.statistics();
        let expected = Statistics {
            segments: statistics.segments,
            segments_loaded: statistics.segments_loaded,
            free_bytes: statistics.free_bytes,
            ..Statistics::default()
        };
        assert_eq!(statistics, expected, "seed {}", self.seed);
        let releases = self.space.releasable().unwrap();
        self.space.released(&releases, true);
        assert_eq!(self.space.segments(), 0, "seed {}", self.seed);
    }
}

#[test]
fn nothing_that_anything_reaches_is_overwritten_and_nothing_leaks() {
    for seed in 0..150 {
        Store::new(seed).run(150);
    }
}
