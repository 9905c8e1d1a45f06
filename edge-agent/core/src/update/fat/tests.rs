#![allow(clippy::single_range_in_vec_init, reason = "one extent is meant")]

use super::*;

/// A volume of 4,096 clusters of 512 octets, as `mkfs.fat -F 16 -s 1` lays it out.
fn boot_sector() -> [u8; 512] {
    let mut boot = [0; 512];
    boot[11..13].copy_from_slice(&512_u16.to_le_bytes());
    boot[13] = 1;
    boot[14] = 1;
    boot[16] = 2;
    boot[17..19].copy_from_slice(&32_u16.to_le_bytes());
    boot[19..21].copy_from_slice(&(1 + 2 * 17 + 2 + 4096_u16).to_le_bytes());
    boot[22] = 17;
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    boot
}

const PARTITION: u64 = (1 + 2 * 17 + 2 + 4096) * 512;
const DATA: u64 = (1 + 2 * 17 + 2) * 512;

fn volume() -> Volume {
    let layout = Layout::parse(&boot_sector(), PARTITION).unwrap();
    Volume::new(layout, vec![0; 17 * 512], vec![0; 1024]).unwrap()
}

#[test]
fn files_get_room_and_give_it_back() {
    let mut volume = volume();
    let environment = volume.allot("BGENV.DAT", 1000).unwrap();
    assert_eq!(environment.extents, [DATA..DATA + 1024]);
    let kernel = volume.allot("linux.efi", 1500).unwrap();
    assert_eq!(kernel.extents, [DATA + 1024..DATA + 2560]);
    assert_eq!(volume.file("LINUX.EFI").unwrap(), Some(kernel), "names have no case");
    // A shorter one, then a longer one: the environment never moves.
    assert_eq!(volume.allot("linux.efi", 1).unwrap().extents, [DATA + 1024..DATA + 1536]);
    let third = volume.allot("c", 512).unwrap();
    assert_eq!(third.extents, [DATA + 1536..DATA + 2048]);
    let kernel = volume.allot("linux.efi", 2000).unwrap();
    assert_eq!(kernel.extents, [DATA + 1024..DATA + 1536, DATA + 2048..DATA + 3584]);
    assert_eq!(volume.file("BGENV.DAT").unwrap(), Some(environment));
    assert_eq!(volume.file("c").unwrap(), Some(third));
    assert_eq!(volume.file("absent").unwrap(), None);
    assert_eq!(volume.allot("empty", 0).unwrap().extents, []);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let mut volume = volume();
    volume.allot("a", 4000 * 512).unwrap();
    let before = (volume.table().to_vec(), volume.folder().to_vec());
    assert!(matches!(volume.allot("b", 97 * 512), Err(FatError::Full { length: 49_664, .. })));
    assert_eq!((volume.table(), volume.folder()), (before.0.as_slice(), before.1.as_slice()));
    assert!(volume.allot("b", 96 * 512).is_ok());
    for bad in ["", ".", "a.b.c", "ninechars", "a.four", "a b", "é"] {
        assert!(matches!(volume.allot(bad, 1), Err(FatError::Name(_))), "{bad}");
    }
    // As many as the folder has entries.
    let mut volume = self::volume();
    for number in 0..32 {
        volume.allot(&format!("f{number}"), 1).unwrap();
    }
    assert!(matches!(volume.allot("f32", 1), Err(FatError::Full { .. })));
}

#[test]
fn torn_chains_are_seen_and_can_be_replaced() {
    for damage in [0_u16, 1, 3, 4098, 0xfff7] {
        let mut volume = volume();
        volume.allot("BGENV.DAT", 512).unwrap();
        volume.allot("linux.efi", 1024).unwrap();
        volume.link(3, damage);
        assert_eq!(volume.file("linux.efi"), Err(FatError::Chain("linux.efi".into())), "{damage}");
        assert!(volume.allot("linux.efi", 3000).is_ok());
        assert_eq!(volume.file("linux.efi").unwrap().unwrap().length, 3000);
        assert_eq!(volume.file("BGENV.DAT").unwrap().unwrap().extents, [DATA..DATA + 512]);
    }
}

#[test]
fn what_torn_chains_held_is_free_again() {
    let mut volume = volume();
    let environment = volume.allot("BGENV.DAT", 2000).unwrap();
    for round in 0..3 {
        let file = volume.allot("linux.efi", 3000 * 512).unwrap();
        assert_eq!((file.extents.len(), file.length), (1, 3000 * 512), "{round}");
        volume.link(1000, 0);
        assert!(volume.file("linux.efi").is_err());
    }
    assert_eq!(volume.file("BGENV.DAT").unwrap(), Some(environment));
}

#[test]
fn only_fat16_is_taken() {
    let good = boot_sector();
    let parse = |change: &dyn Fn(&mut [u8; 512])| {
        let mut boot = good;
        change(&mut boot);
        Layout::parse(&boot, PARTITION)
    };
    assert!(parse(&|_| ()).is_ok());
    assert!(parse(&|boot| boot[510] = 0).is_err());
    assert!(parse(&|boot| boot[12] = 8).is_err(), "4096-octet sectors");
    assert!(parse(&|boot| boot[13] = 3).is_err());
    assert!(parse(&|boot| boot[13] = 2).is_err(), "FAT12 by its number of clusters");
    assert!(parse(&|boot| boot[22] = 15).is_err(), "tables too short");
    assert!(parse(&|boot| boot[20] = 0x40).is_err(), "longer than the partition");
    assert!(Layout::parse(&good[..511], PARTITION).is_err());
}
