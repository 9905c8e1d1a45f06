//! The file system of a boot partition, FAT16, as far as files in its root folder need it (Microsoft's "FAT: General
//! Overview of On-Disk Format", 1.03).
//!
//! The agent writes it without mounting it: no mount, no driver of the kernel, and the sectors of the file that must
//! survive everything, the environment, never move. Octets come in and go out; who reads and writes them, and in
//! which order, is the shell's.

use std::collections::BTreeSet;
use std::ops::Range;

/// Octets of a folder's entry.
const ENTRY: usize = 32;
/// End of a chain; what is written.
const END: u16 = 0xffff;
/// The least value that ends a chain.
const LEAST_END: u16 = 0xfff8;
/// Entries whose attributes say "volume label", which the parts of a long name say, too.
const VOLUME_LABEL: u8 = 0x08;
const DELETED: u8 = 0xe5;

/// Why octets are not such a file system, or do not take the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FatError {
    /// The boot sector.
    #[error("FAT16 file system: {0}")]
    Format(&'static str),
    /// A chain leaves the volume, runs in a circle or ends early.
    #[error("FAT16 file system: the clusters of {0} are damaged")]
    Chain(String),
    /// It would not fit.
    #[error("FAT16 file system: no room for {name} of {length} octets")]
    Full {
        /// The file.
        name: String,
        /// Its length.
        length: u64,
    },
    /// Not such a name.
    #[error("FAT16 file system: {0} is no name of eight and three characters")]
    Name(String),
}

/// Where the parts lie, in octets from the beginning of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Each copy of the allocation table.
    pub tables: Vec<Range<u64>>,
    /// The root folder.
    pub folder: Range<u64>,
    data: u64,
    cluster: u64,
    /// One behind the last cluster's number.
    clusters_end: u16,
}

impl Layout {
    /// Reads the first 512 octets of a partition of `partition` octets.
    ///
    /// # Errors
    ///
    /// [`FatError::Format`].
    pub fn parse(boot: &[u8], partition: u64) -> Result<Self, FatError> {
        let boot: &[u8; 512] = boot.first_chunk().ok_or(FatError::Format("the boot sector is cut off"))?;
        let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        if boot[510..] != [0x55, 0xaa] {
            return Err(FatError::Format("there is no boot sector"));
        }
        let (sector, per_cluster, reserved) = (word(11), u64::from(boot[13]), word(14));
        let (tables, entries, table) = (u64::from(boot[16]), word(17), word(22));
        let total = match word(19) {
            0 => word(32) | word(34) << 16,
            total => total,
        };
        if sector != 512 || !per_cluster.is_power_of_two() || reserved == 0 {
            return Err(FatError::Format("sectors must have 512 octets, clusters a power of two of them"));
        }
        if !(1..=2).contains(&tables) || table == 0 || entries == 0 || total * sector > partition {
            return Err(FatError::Format("its tables do not fit the partition"));
        }
        let table_range = |number: u64| {
            let start = (reserved + number * table) * sector;
            start..start + table * sector
        };
        let folder = (reserved + tables * table) * sector;
        let folder = folder..folder + (entries * ENTRY as u64).next_multiple_of(sector);
        let cluster = per_cluster * sector;
        let clusters = (total * sector).saturating_sub(folder.end) / cluster;
        // What tells FAT16 from FAT12 and FAT32 is the number of clusters alone.
        if !(4085..65525).contains(&clusters) || table * sector < (clusters + 2) * 2 {
            return Err(FatError::Format("it is not FAT16"));
        }
        Ok(Self {
            tables: (0..tables).map(table_range).collect(),
            data: folder.end,
            folder,
            cluster,
            // At most 65526, by the line above.
            clusters_end: u16::try_from(clusters + 2).unwrap_or(u16::MAX),
        })
    }

    fn clusters_of(&self, length: u64) -> u64 {
        length.div_ceil(self.cluster)
    }
}

/// A file in the root folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Octets.
    pub length: u64,
    /// Where its content lies, in order; together at least `length` octets.
    pub extents: Vec<Range<u64>>,
}

/// The tables of a volume, in memory.
#[derive(Clone, Debug)]
pub struct Volume {
    layout: Layout,
    table: Vec<u8>,
    folder: Vec<u8>,
}

impl Volume {
    /// `table` is the first of [`Layout::tables`], `folder` is [`Layout::folder`].
    ///
    /// # Errors
    ///
    /// [`FatError::Format`] when they are of another length.
    pub fn new(layout: Layout, table: Vec<u8>, folder: Vec<u8>) -> Result<Self, FatError> {
        let fits = |octets: &[u8], range: &Range<u64>| octets.len() as u64 == range.end - range.start;
        if !layout.tables.first().is_some_and(|range| fits(&table, range)) || !fits(&folder, &layout.folder) {
            return Err(FatError::Format("its tables are cut off"));
        }
        Ok(Self { layout, table, folder })
    }

    /// Where the parts lie.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The allocation table, as each copy should be.
    #[must_use]
    pub fn table(&self) -> &[u8] {
        &self.table
    }

    /// The root folder, as it should be.
    #[must_use]
    pub fn folder(&self) -> &[u8] {
        &self.folder
    }

    /// The file called `name`; none = there is none.
    ///
    /// # Errors
    ///
    /// [`FatError::Chain`], [`FatError::Name`].
    pub fn file(&self, name: &str) -> Result<Option<File>, FatError> {
        let Some(at) = self.find(name)? else { return Ok(None) };
        let entry = &self.folder[at..at + ENTRY];
        let length = u64::from(u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]));
        let clusters = self.chain(name, entry)?;
        if (clusters.len() as u64) < self.layout.clusters_of(length) {
            return Err(FatError::Chain(name.to_owned()));
        }
        Ok(Some(File { length, extents: self.extents(&clusters) }))
    }

    /// Gives the file called `name` room for `length` octets, and takes away what it had. Its content is where it
    /// was as long as there are as many clusters, and undefined elsewhere.
    ///
    /// # Errors
    ///
    /// [`FatError`]; no file is changed then.
    pub fn allot(&mut self, name: &str, length: u32) -> Result<File, FatError> {
        let full = || FatError::Full { name: name.to_owned(), length: u64::from(length) };
        let short = short_name(name)?;
        let (at, mut clusters) = match self.find(name)? {
            Some(at) => {
                let held = self.chain(name, &self.folder[at..at + ENTRY]);
                if held.is_err() {
                    self.reclaim();
                }
                (at, held.unwrap_or_default())
            }
            None => (self.free_entry().ok_or_else(full)?, Vec::new()),
        };
        // At most 2^32 octets in clusters of at least 512: fits.
        let wanted = self.layout.clusters_of(u64::from(length)) as usize;
        let before = clusters.clone();
        clusters.truncate(wanted);
        let free = (2..self.layout.clusters_end).filter(|cluster| self.next(*cluster) == Some(0));
        clusters.extend(free.take(wanted - clusters.len()));
        if clusters.len() < wanted {
            return Err(full());
        }
        before.iter().for_each(|cluster| self.link(*cluster, 0));
        for (index, cluster) in clusters.iter().enumerate() {
            self.link(*cluster, clusters.get(index + 1).copied().unwrap_or(END));
        }
        let entry = &mut self.folder[at..at + ENTRY];
        if entry[0] == 0 || entry[0] == DELETED {
            entry.fill(0);
            entry[..11].copy_from_slice(&short);
            // 1980-01-01, the least date there is.
            entry[24] = 0x21;
        }
        entry[26..28].copy_from_slice(&clusters.first().copied().unwrap_or(0).to_le_bytes());
        entry[28..].copy_from_slice(&length.to_le_bytes());
        Ok(File { length: u64::from(length), extents: self.extents(&clusters) })
    }

    /// Frees the clusters that no file leads to: what is left of a chain that a power cut tore.
    fn reclaim(&mut self) {
        let files = self.folder.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0);
        let files = files.filter(|entry| entry[0] != DELETED && entry[11] & VOLUME_LABEL == 0);
        let held: BTreeSet<u16> = files.filter_map(|entry| self.chain("", entry).ok()).flatten().collect();
        for cluster in (2..self.layout.clusters_end).filter(|cluster| !held.contains(cluster)) {
            self.link(cluster, 0);
        }
    }

    fn find(&self, name: &str) -> Result<Option<usize>, FatError> {
        let short = short_name(name)?;
        for (index, entry) in self.folder.chunks_exact(ENTRY).enumerate() {
            if entry[0] == 0 {
                break;
            }
            if entry[..11] == short && entry[11] & VOLUME_LABEL == 0 {
                return Ok(Some(index * ENTRY));
            }
        }
        Ok(None)
    }

    fn free_entry(&self) -> Option<usize> {
        let free = |entry: &[u8]| entry[0] == 0 || entry[0] == DELETED;
        self.folder.chunks_exact(ENTRY).position(free).map(|index| index * ENTRY)
    }

    fn chain(&self, name: &str, entry: &[u8]) -> Result<Vec<u16>, FatError> {
        let damaged = || FatError::Chain(name.to_owned());
        let mut clusters = Vec::new();
        let mut cluster = u16::from_le_bytes([entry[26], entry[27]]);
        if cluster == 0 {
            return Ok(clusters);
        }
        while cluster < LEAST_END {
            if !(2..self.layout.clusters_end).contains(&cluster)
                || clusters.len() >= usize::from(self.layout.clusters_end)
            {
                return Err(damaged());
            }
            clusters.push(cluster);
            cluster = self.next(cluster).filter(|next| *next != 0).ok_or_else(damaged)?;
        }
        Ok(clusters)
    }

    fn next(&self, cluster: u16) -> Option<u16> {
        let at = usize::from(cluster) * 2;
        Some(u16::from_le_bytes(self.table.get(at..at + 2)?.try_into().ok()?))
    }

    fn link(&mut self, cluster: u16, next: u16) {
        let at = usize::from(cluster) * 2;
        if let Some(place) = self.table.get_mut(at..at + 2) {
            place.copy_from_slice(&next.to_le_bytes());
        }
    }

    fn extents(&self, clusters: &[u16]) -> Vec<Range<u64>> {
        let mut extents: Vec<Range<u64>> = Vec::new();
        for cluster in clusters {
            let start = self.layout.data + u64::from(cluster - 2) * self.layout.cluster;
            match extents.last_mut() {
                Some(last) if last.end == start => last.end += self.layout.cluster,
                _ => extents.push(start..start + self.layout.cluster),
            }
        }
        extents
    }
}

/// `linux.efi` as `LINUX   EFI`.
fn short_name(name: &str) -> Result<[u8; 11], FatError> {
    let bad = || FatError::Name(name.to_owned());
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let sound = |part: &str, most: usize| {
        part.len() <= most && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
    };
    if stem.is_empty() || !sound(stem, 8) || !sound(extension, 3) {
        return Err(bad());
    }
    let mut short = [b' '; 11];
    for (place, octet) in short.iter_mut().zip(stem.bytes()) {
        *place = octet.to_ascii_uppercase();
    }
    for (place, octet) in short[8..].iter_mut().zip(extension.bytes()) {
        *place = octet.to_ascii_uppercase();
    }
    Ok(short)
}

#[cfg(test)]
mod tests;
