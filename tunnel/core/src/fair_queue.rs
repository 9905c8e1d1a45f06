//! Who is served next when there is more to do than time: FQ-CoDel (RFC 8290) over whatever is queued.
//!
//! Flows take turns by deficit round robin, one that was quiet before the others, so a flood of one peer is no
//! delay for another. Without room the longest flow loses its oldest item; a flow whose items wait too long for
//! too long loses some early (CoDel, RFC 8289), which ends the standing queue of an elastic sender. What an item
//! is, and to which flow it belongs, the caller decides; memory is taken once.

mod codel;
mod flow;

use codel::Codel;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

pub use flow::flow_of;

/// Flows told apart; those of one hash share their turns. 1,024 make a clash of two among ten a matter of 4 %.
const BUCKETS: usize = 1024;

/// Cost that a flow may spend in a turn: two full-size packets.
const QUANTUM: i64 = 4096;

/// A bounded queue of `T` that many flows share.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Part of the hash, so that nobody outside can choose to share a bucket.
    seed: u64,
    flows: Box<[Flow]>,
    nodes: Box<[Node<T>]>,
    /// Nodes in no flow.
    free: Vec<u32>,
    /// Flows that were quiet until now: served first, once.
    fresh: VecDeque<u32>,
    /// The others, in the order of their turns.
    waiting: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Flow {
    oldest: Option<u32>,
    newest: Option<u32>,
    /// Items queued.
    count: u32,
    deficit: i64,
    /// Whether it is in `fresh` or `waiting`.
    listed: bool,
    codel: Codel,
}

#[derive(Debug)]
struct Node<T> {
    item: Option<T>,
    cost: u32,
    since: Option<Instant>,
    next: Option<u32>,
}

impl<T> FairQueue<T> {
    /// A queue of at most `limit` items. `seed` must be unpredictable.
    #[must_use]
    pub fn new(limit: u32, seed: u64) -> Self {
        let node = || Node { item: None, cost: 0, since: None, next: None };
        Self {
            seed,
            flows: std::iter::repeat_with(Flow::default).take(BUCKETS).collect(),
            nodes: std::iter::repeat_with(node).take(limit as usize).collect(),
            free: (0..limit).rev().collect(),
            // A flow is listed once, and only with something in it or just emptied.
            fresh: VecDeque::with_capacity(BUCKETS),
            waiting: VecDeque::with_capacity(BUCKETS),
        }
    }

    /// Items in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.nodes.len()
    }

    /// Queues `item` of flow `key`. `cost` is what serving it takes, in octets or the like.
    ///
    /// Returns what had to give way: the oldest item of the flow that holds most, or `item` itself if there is
    /// no room at all.
    pub fn push(&mut self, now: Instant, key: u64, cost: u32, item: T) -> Option<T> {
        let evicted = if self.free.is_empty() { self.evict() } else { None };
        let Some(node) = self.free.pop() else { return Some(item) };
        self.nodes[node as usize] = Node { item: Some(item), cost, since: Some(now), next: None };
        let bucket = self.bucket(key);
        let flow = &mut self.flows[bucket];
        match flow.newest.replace(node) {
            Some(newest) => self.nodes[newest as usize].next = Some(node),
            None => flow.oldest = Some(node),
        }
        flow.count += 1;
        if !flow.listed {
            flow.listed = true;
            flow.deficit = QUANTUM;
            self.fresh.push_back(bucket as u32);
        }
        evicted
    }

    /// Takes the item whose turn it is. Those that waited too long before it go to `dropped`.
    pub fn pop(&mut self, now: Instant, mut dropped: impl FnMut(T)) -> Option<T> {
        while let Some(bucket) = self.next_flow() {
            let Some(node) = self.flows[bucket].oldest else {
                self.retire(bucket);
                continue;
            };
            let late = self.nodes[node as usize].since.map(|since| now.saturating_duration_since(since));
            // The last one is never dropped: there is no queue behind it.
            let last = self.flows[bucket].oldest == self.flows[bucket].newest;
            let drop = self.flows[bucket].codel.judge(now, late.unwrap_or_default(), last);
            let (item, cost) = self.take_oldest(bucket)?;
            if drop {
                dropped(item);
                continue;
            }
            self.flows[bucket].deficit -= i64::from(cost);
            return Some(item);
        }
        None
    }

    /// The flow at the head of the lists that has something left to spend.
    fn next_flow(&mut self) -> Option<usize> {
        loop {
            let bucket = *self.fresh.front().or_else(|| self.waiting.front())? as usize;
            let alone = self.fresh.len() + self.waiting.len() == 1;
            let flow = &mut self.flows[bucket];
            if flow.deficit > 0 {
                return Some(bucket);
            }
            // Alone, it owes nobody for large items.
            flow.deficit = if alone { QUANTUM } else { flow.deficit + QUANTUM };
            self.put_behind(bucket);
        }
    }

    /// Takes an empty flow off the lists; a fresh one only after a turn among the others, lest it come back as
    /// fresh each time and never let them.
    fn retire(&mut self, bucket: usize) {
        if self.fresh.front() == Some(&(bucket as u32)) && !self.waiting.is_empty() {
            self.put_behind(bucket);
        } else {
            let list = if self.fresh.is_empty() { &mut self.waiting } else { &mut self.fresh };
            list.pop_front();
            self.flows[bucket].listed = false;
        }
    }

    /// Moves the first of all flows, `bucket`, behind the others.
    fn put_behind(&mut self, bucket: usize) {
        if self.fresh.pop_front().is_none() {
            self.waiting.pop_front();
        }
        self.waiting.push_back(bucket as u32);
    }

    /// Makes room: takes the oldest item of the flow that holds most.
    pub fn evict(&mut self) -> Option<T> {
        let listed = self.fresh.iter().chain(&self.waiting);
        let longest = listed.max_by_key(|&&bucket| self.flows[bucket as usize].count)?;
        let (item, _) = self.take_oldest(*longest as usize)?;
        Some(item)
    }

    fn take_oldest(&mut self, bucket: usize) -> Option<(T, u32)> {
        let flow = &mut self.flows[bucket];
        let index = flow.oldest?;
        let node = &mut self.nodes[index as usize];
        flow.oldest = node.next.take();
        if flow.oldest.is_none() {
            flow.newest = None;
        }
        flow.count -= 1;
        self.free.push(index);
        Some((node.item.take()?, node.cost))
    }

    fn bucket(&self, key: u64) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u64(key);
        hasher.finish() as usize % BUCKETS
    }
}

#[cfg(test)]
mod tests;
